"""A reviewer at the keyboard: from a key to the next image, in a real browser on this machine, and
how many decisions are lost while the network swallows every tenth answer."""

import shutil
import tempfile
import time
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from PIL import Image

from bench import pool
from bench.common import share
from bench.serving import servers
from toploss import classes, samples
from toploss.home import Home
from toploss.settings import read_settings
from toploss.splits import Split

SIDE = 512, 384  # pixels of an image
KEYS = 200  # pressed while the time to the next image is taken
PAUSE_S = 0.15  # between two of them: a quick reviewer
UNLUCKY = 10  # of so many answers one never arrives

# Notes when a key goes down, and when the picture that comes of it is decoded and on the screen.
WATCH = """
() => {
  window.waits = [];
  let pressed = null;
  addEventListener("keydown", () => (pressed = performance.now()), true);
  new MutationObserver(() => {
    const picture = document.querySelector("#stage img"), from = pressed;
    if (from === null || !picture) return;
    pressed = null;
    picture.decode().then(() => requestAnimationFrame(() => {
      const channel = new MessageChannel();  // what a frame posts runs after it was painted
      channel.port1.onmessage = () => window.waits.push(performance.now() - from);
      channel.port2.postMessage(null);
    }));
  }).observe(document.querySelector("#stage"), { childList: true });
}
"""


def measure(number: int) -> dict[str, Any]:
    """
    Args:
        number: decisions of the session with the bad network; twice as many images are made.

    Returns:
        Why not, where there is no browser.
    """
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        found = None
    if found is None:
        return {"browser": "none: Playwright, or Debian's chromium, is not installed"}
    with tempfile.TemporaryDirectory(prefix="toploss-bench-") as scratch:
        home = Home.open(read_settings(home=Path(scratch) / "home"))
        _fill(home, KEYS + number + 100)
        home.db.close()
        with (
            servers.ours(Path(scratch) / "home", Path(scratch), until="/livez") as address,
            sync_playwright() as playwright,
        ):
            browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
            page = browser.new_page(viewport={"width": 1280, "height": 900})
            page.goto(f"{address}/review")
            page.wait_for_selector("#stage img")
            waits = _waits(page)
            return {
                **{f"key_to_image_ms_p{p}": round(share(waits, p), 1) for p in (50, 95)},
                "keys": len(waits),
                **_session(page, address, number),
            }


def _waits(page: Any) -> list[float]:
    page.evaluate(WATCH)
    for _ in range(KEYS):
        page.keyboard.press("Enter")
        time.sleep(PAUSE_S)
    waits: list[float] = page.evaluate("() => window.waits")
    return waits


def _session(page: Any, address: str, number: int) -> dict[str, Any]:
    """Decisions one after the other; every tenth is recorded, and its answer swallowed."""
    before, asked = _recorded(address), 0

    def swallow(route: Any) -> None:
        nonlocal asked
        asked += 1
        if asked % UNLUCKY:
            route.continue_()
        else:
            route.fetch()
            route.abort()

    page.route("**/v1/decisions", swallow)
    for _ in range(number):
        page.keyboard.press("Enter")
        page.wait_for_timeout(40)
    page.get_by_text("All saved", exact=True).wait_for(timeout=120_000)
    return {
        "decisions": number,
        "answers_swallowed": asked // UNLUCKY,
        "lost_decisions": number - (_recorded(address) - before),
    }


def _recorded(address: str) -> int:
    """Samples that are decided."""
    return int(httpx.get(f"{address}/v1/top-losses?state=decided&limit=1").json()["total"])


def _fill(home: Home, number: int) -> None:
    """Images like photographs, in the list of a version."""
    chance = np.random.default_rng(0)
    version = pool.make_version(home)
    with home.db.read() as connection:
        names = list(classes.load(connection).open)
    for place in range(number):
        coarse = chance.integers(0, 256, (6, 8, 3), np.uint8)
        picture = Image.fromarray(coarse).resize(SIDE, Image.Resampling.BICUBIC)
        out = BytesIO()
        picture.save(out, "JPEG", quality=90)
        label = names[place % len(names)]
        name = f"photograph-{place}.jpg"
        samples.add(home, out.getvalue(), label, name=name, actor="bench", split=Split.VALID)
    pool.score(home, version, chance)

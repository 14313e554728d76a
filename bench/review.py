"""The review at a size: a page of the list, a decision, and what it costs to take samples in; and
a reviewer at the keyboard.

`--database-url` measures on PostgreSQL; else it is SQLite, in a folder of its own.
"""

import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from sqlalchemy import text

from bench import browsing, pool
from bench.common import main, options, share
from bench.serving import servers
from bench.serving.overload import resident_mb
from toploss import classes, samples
from toploss.home import Home
from toploss.orders import Order
from toploss.preprocess import ImageInfo
from toploss.samples import Kept
from toploss.settings import read_settings

SAMPLES, FEW = 1_000_000, 50_000
STEP = 100_000
IMPORTED = 1000  # samples taken in one by one, where the rate is measured
PAGES, DECISIONS = 400, 400
SESSION, HURRIED = 500, 100  # decisions in a browser


def measure(quick: bool, url: str | None, number: int | None) -> dict[str, Any]:
    number = number or (FEW if quick else SAMPLES)
    with tempfile.TemporaryDirectory(prefix="toploss-bench-") as scratch:
        settings = {"database_url": url} if url else {}
        home = Home.open(read_settings(home=Path(scratch) / "home", **settings))
        figures = grown(home, number)
        with servers.ours(
            Path(scratch) / "home", Path(scratch), until="/livez", **settings
        ) as address:
            figures |= reviewed(address)
            figures["service_mb"] = round(resident_mb(address))
        figures["database_mb"] = round(_database_mb(home))
        home.db.close()
    return figures | browsing.measure(HURRIED if quick else SESSION)


def grown(home: Home, number: int) -> dict[str, Any]:
    """Samples and their scores come in, step by step; how fast at each."""
    chance = np.random.default_rng(0)
    version = pool.make_version(home)
    imports, scored = [], []
    for start in range(0, number, STEP):
        imports.append(_rate(IMPORTED, lambda: _taken_in(home, chance)))
        pool.grow(home, chance, min(start + STEP, number))
        began = time.monotonic()
        done = pool.score(home, version, chance)
        scored.append(done / (time.monotonic() - began))
        print(
            f"{min(start + STEP, number):9,} samples: {imports[-1]:.0f} taken in a second, "
            f"{scored[-1]:.0f} scored a second",
            flush=True,
        )
    if home.db.url.startswith("postgresql"):
        with home.db.write() as connection:
            connection.execute(text("ANALYZE"))
    return {
        "samples": number,
        "taken_in_per_s": [round(rate) for rate in imports],
        "scored_per_s": [round(rate) for rate in scored],
        "scored_last_over_first": round(scored[-1] / scored[0], 3),
        "taken_in_last_over_first": round(imports[-1] / imports[0], 3),
    }


def reviewed(address: str) -> dict[str, Any]:
    """What a reviewer waits for, each request on its own."""
    dice = random.Random(0)
    with httpx.Client(base_url=address, timeout=60) as client:
        pages = _timed(PAGES, _pages(client, dice))
        progress = _timed(100, lambda: client.get("/v1/progress").raise_for_status())
        pairs = _timed(100, lambda: client.get("/v1/top-losses/pairs").raise_for_status())
        items = client.get("/v1/top-losses", params={"limit": 500}).json()["items"]
        todo = iter(items)

        def decide() -> None:
            item = next(todo)
            action = dice.choice(["confirm", "relabel", "exclude", "skip"])
            body = {"sample": item["id"], "action": action, "revision": item["revision"]}
            body |= {"label": item["predicted"]} if action == "relabel" else {}
            key = {"Idempotency-Key": item["id"]}
            client.post("/v1/decisions", json=body, headers=key).raise_for_status()

        decisions = _timed(DECISIONS, decide)
        progress += _timed(100, lambda: client.get("/v1/progress").raise_for_status())
    return {
        **_told("list", pages),
        **_told("pairs", pairs),
        **_told("progress", progress),
        **_told("decision", decisions),
    }


def _pages(client: httpx.Client, dice: random.Random) -> Callable[[], None]:
    """Pages of lists in every order, with and without filters, at the top and further down."""
    cursor: list[str | None] = [None]
    asked: dict[str, Any] = {}

    def page() -> None:
        nonlocal asked
        if cursor[0] is None or dice.random() < 0.3:
            asked = {"order": dice.choice(list(Order)), "limit": dice.choice([24, 50, 200])}
            given, predicted = (f"class-{dice.randrange(pool.CLASSES)}" for _ in range(2))
            kinds = [
                {},
                {"label": given},
                {"predicted": predicted},
                {"label": given, "predicted": predicted},
                {"label": given, "predicted": given},
                {"split": "valid"},
                {"state": dice.choice(["decided", "all"])},
                {"text": f"photograph-{dice.randrange(10**6)}"},
            ]
            asked |= dice.choice(kinds)
            cursor[0] = None
        params = asked | ({"cursor": cursor[0]} if cursor[0] else {})
        cursor[0] = (
            client.get("/v1/top-losses", params=params).raise_for_status().json()["next_cursor"]
        )

    return page


def _timed(times: int, act: Callable[[], object]) -> list[float]:
    found = []
    for _ in range(times):
        began = time.monotonic()
        act()
        found.append((time.monotonic() - began) * 1000)
    return found


def _told(name: str, ms: list[float]) -> dict[str, float]:
    return {f"{name}_ms_p50": round(share(ms, 50), 1), f"{name}_ms_p95": round(share(ms, 95), 1)}


def _rate(number: int, work: Callable[[], object]) -> float:
    began = time.monotonic()
    work()
    return number / (time.monotonic() - began)


def _taken_in(home: Home, chance: np.random.Generator) -> None:
    """Samples as an import records them, without their images."""
    info = ImageInfo(format="JPEG", width=512, height=384)
    with home.db.write() as connection:
        known = classes.load(connection)
        for _ in range(IMPORTED):
            kept = Kept(
                id=chance.bytes(32).hex(),
                info=info,
                likeness=pool.some_likeness(chance),
                bytes=40_000,
                name=f"photograph-{chance.integers(10**6)}.jpg",
            )
            label = known.id_of(f"class-{chance.integers(pool.CLASSES)}")
            samples.record(connection, home, kept, label, actor="bench", known=known)


def _database_mb(home: Home) -> float:
    if home.db.url.startswith("sqlite"):
        return sum(file.stat().st_size for file in home.settings.home.glob("toploss.db*")) / 2**20
    with home.db.read() as connection:
        size = connection.execute(text("SELECT pg_database_size(current_database())"))
        return float(size.scalar_one()) / 2**20


if __name__ == "__main__":
    parser = options("review", f"{FEW:,} samples in place of {SAMPLES:,}")
    parser.add_argument("--database-url", help="else SQLite")
    parser.add_argument("--samples", type=int, help=f"else {SAMPLES:,}; with --quick {FEW:,}")
    main(parser, lambda args: measure(args.quick, args.database_url, args.samples))

"""A real browser before a real server, on a home with a list to review."""

import re
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from tests.service.conftest import LABELS, export, picture, publish, score, settings_for
from toploss import classes, models, samples
from toploss.home import Home
from toploss.splits import Split

__all__ = ["export"]  # pytest finds the fixture here

WIDTHS = {"phone": 390, "tablet": 820, "wide": 1440}


# Not longer: an event loop of its own runs in this thread as long as it is open.
@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        pytest.skip("no chromium is installed; Debian's package `chromium` has it")
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="session")
def listed(tmp_path_factory: pytest.TempPathFactory, export: Path) -> Path:
    """A home to copy: three classes, 90 samples of which 80 are in the list, a model that serves.

    Every second sample's label is the model's own; the others were given another one.
    """
    folder = tmp_path_factory.mktemp("listed")
    home = Home.open(settings_for(folder / "home"))
    with home.db.write() as connection:
        for label in LABELS:
            classes.ensure(connection, label, "test")
    for seed in range(90):
        split = Split.VALID if seed < 80 else Split.TRAIN if seed < 85 else Split.TEST
        label, data = LABELS[1 + seed % 2], picture(seed, side=32)
        samples.add(home, data, label, name=f"{seed:03}.png", actor="test", split=split)
    version = publish(home, export, folder)
    score(home, version)
    models.promote(home, version, reason="test", actor="test")
    home.db.close()
    return folder / "home"


@dataclass
class Site:
    """A served home, for a browser."""

    home: Home
    port: int
    _server: uvicorn.Server | None = None
    _thread: threading.Thread | None = None
    complaints: list[str] = field(default_factory=list)  # of the browser's console

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        from service import api as apis
        from service.desk import Desk
        from service.edge import Edge

        api = apis.build()
        self._desk = api.state.desk = Desk.lay(self.home)
        self._desk.swap.start()
        config = uvicorn.Config(
            Edge(api, api=api),
            host="127.0.0.1",
            port=self.port,
            log_level="warning",
            ws="none",
            lifespan="off",
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        soon(lambda: self._server is not None and self._server.started)
        soon(lambda: self._desk.swap.ready)

    def stop(self) -> None:
        if self._server is None or self._thread is None:
            return
        self._server.should_exit = True
        self._thread.join(10)
        self._server = None
        self._desk.swap.stop()


def soon(until: Callable[[], Any], seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def served(home: Home) -> Iterator[Site]:
    site = Site(home=home, port=free_port())
    site.start()
    yield site
    site.stop()
    home.db.close()


@pytest.fixture
def site(listed: Path, tmp_path: Path, bentoml_home: Path) -> Iterator[Site]:
    """A copy of `listed`, served."""
    shutil.copytree(listed, tmp_path / "home")
    with served(Home.open(settings_for(tmp_path / "home"))) as made:
        yield made
    assert made.complaints == []


@pytest.fixture
def bare(tmp_path: Path, bentoml_home: Path) -> Iterator[Site]:
    """Nothing in it: no class, no sample, no model."""
    with served(Home.open(settings_for(tmp_path / "home"))) as made:
        yield made
    assert made.complaints == []


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    made = browser.new_context(viewport={"width": WIDTHS["wide"], "height": 900})
    yield made
    made.close()


def opened(context: BrowserContext, site: Site, path: str, *, expect: str = "") -> Page:
    """The page at a path; what its console complains of fails the test, but for what is expected.

    Args:
        expect: a pattern of complaints that the test provokes.
    """
    page = context.new_page()
    page.on("pageerror", lambda error: site.complaints.append(str(error)))
    page.on(
        "console",
        lambda message: (
            site.complaints.append(message.text)
            if message.type == "error" and not (expect and re.search(expect, message.text))
            else None
        ),
    )
    page.goto(site.url + path)
    return page


def check_accessible(page: Page) -> None:
    """axe-core finds nothing, in any of its rules."""
    found = Axe().run(page).response["violations"]
    assert not found, [
        (rule["id"], rule["help"], [node["html"][:200] for node in rule["nodes"]]) for rule in found
    ]

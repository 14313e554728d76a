"""The service is killed under a reviewer's hands, as the kernel kills: nothing is lost."""

import shutil
import subprocess
from pathlib import Path

import httpx
import psutil
import pytest
from playwright.sync_api import BrowserContext, expect

from tests.browser.conftest import soon
from tests.browser.reviewing import press
from tests.service import running
from tests.service.conftest import settings_for
from toploss import losses, trail
from toploss.home import Home

LOADED = """performance.getEntriesByType('resource')
  .filter((entry) => entry.name.endsWith('/image')).length"""  # pictures


def start(folder: Path, port: int) -> "subprocess.Popen[bytes]":
    with (folder / "log.txt").open("ab") as out:
        process = subprocess.Popen(
            running.command(port),
            cwd=running.ROOT,
            env=running.environment(folder),
            stdout=out,
            stderr=out,
        )
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=10) as client:
        running.soon(lambda: running.answers(client), process=process, log=folder / "log.txt")
    return process


def kill(process: "subprocess.Popen[bytes]") -> None:
    family = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait(10)
    psutil.wait_procs(family, timeout=20)  # they follow their parent


@pytest.mark.slow
def test_a_killed_service_takes_up_where_it_was(
    context: BrowserContext, listed: Path, tmp_path: Path
) -> None:
    shutil.copytree(listed, tmp_path / "home")
    port = running.free_port()
    process = start(tmp_path, port)
    try:
        page = context.new_page()
        page.goto(f"http://127.0.0.1:{port}/review")
        expect(page.locator("#reviewed")).to_have_text("0", timeout=20_000)
        home = Home.open(settings_for(tmp_path / "home"))
        wanted = [item.id for item in losses.top(home, limit=80).items][:30]
        for _ in range(10):
            press(page, "Enter")
        soon(lambda: page.evaluate(LOADED) >= 18)  # of 20: these, and those that come next
        kill(process)
        for _ in range(20):  # beyond the pictures that are here, nothing is decided
            page.keyboard.press("Enter")
            page.wait_for_timeout(50)
        expect(page.locator("#saves")).to_contain_text("not saved yet")
        process = start(tmp_path, port)
        expect(page.locator("#saves")).to_have_text("All saved", timeout=30_000)
        told = [event["sample"] for event in trail.listed(home)][::-1]
        assert len(told) >= 18
        assert told == wanted[: len(told)]
        home.db.close()
    finally:
        kill(process)

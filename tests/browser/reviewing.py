"""How a reviewer goes about on the page, and what comes of it."""

from typing import Any

from playwright.sync_api import BrowserContext, Page, expect

from tests.browser.conftest import Site, opened, soon
from toploss import trail
from toploss.home import Home

OFFLINE = "ERR_|Failed to load resource"  # what a browser complains of when nobody answers


def review(context: BrowserContext, site: Site, query: str = "", *, expect: str = "") -> Page:
    page = opened(context, site, f"/review{query}", expect=expect)
    ready(page)
    return page


def ready(page: Page) -> None:
    expect(page.locator("#reviewed")).not_to_have_text("–", timeout=20_000)


SHOWN = """() => {
  const picture = document.querySelector("#stage img");
  return !picture || picture.closest("[hidden]") || (picture.complete && picture.naturalWidth > 0);
}"""


def press(page: Page, key: str) -> None:
    """A key of a reviewer who has seen the picture."""
    soon(lambda: page.evaluate(SHOWN))
    page.keyboard.press(key)


def saved(page: Page) -> None:
    expect(page.locator("#saves")).to_have_text("All saved", timeout=20_000)


def said(home: Home) -> list[dict[str, Any]]:
    """Decisions and undos, oldest first."""
    return trail.listed(home)[::-1]


def standing(home: Home, sample: str) -> dict[str, Any]:
    return trail.of(home, sample)[-1]


def current(page: Page) -> str:
    """The id of the sample that is looked at."""
    return str(page.evaluate("new URLSearchParams(location.search).get('sample')"))


def on_screen(page: Page) -> str:
    return str(page.evaluate("document.querySelector('#stage img')?.getAttribute('src')"))


def looks_at(page: Page, sample: str) -> None:
    soon(lambda: on_screen(page) == f"/v1/samples/{sample}/image")

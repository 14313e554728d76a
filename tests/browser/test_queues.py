"""The queues beside the list: captured images, and the holdout, which is judged blind."""

from playwright.sync_api import BrowserContext, expect

from tests.browser.conftest import Site, check_accessible, soon
from tests.browser.reviewing import (
    on_screen,
    press,
    review,
    said,
    standing,
)
from tests.service.conftest import picture
from toploss import captures, feedback
from toploss.blobs import sha256
from toploss.captures import Shot, Why
from toploss.ids import new_id


def test_a_captured_image_becomes_a_sample_by_a_reviewer_s_word(
    context: BrowserContext, site: Site
) -> None:
    kept = captured(site, 500)
    page = review(context, site, "?queue=captures")
    expect(page.locator("#queues [aria-pressed=true]")).to_contain_text("Captured 1")
    expect(page.locator("#name")).to_contain_text("Kept by chance. ann says red.")
    check_accessible(page)
    press(page, "Enter")  # it is what the claim says
    expect(page.locator("#empty-title")).to_have_text("Nothing waits here")
    assert standing(site.home, kept)["label"] == "red"


def test_captures_that_are_skipped_make_way_for_those_behind_them(
    context: BrowserContext, site: Site
) -> None:
    waiting = {captured(site, seed) for seed in range(500, 522)}  # two more than are read at a time
    page = review(context, site, "?queue=captures")
    met: list[str] = []
    for _ in waiting:
        soon(lambda: on_screen(page) not in {*met, "None"})
        met.append(on_screen(page))
        press(page, " ")
    soon(lambda: on_screen(page) == met[0])  # then from the beginning


def test_a_queue_that_is_none_is_the_list(context: BrowserContext, site: Site) -> None:
    page = review(context, site, "?queue=foo")
    expect(page.locator("#queues [aria-pressed=true]")).to_have_attribute("data-queue", "top")


def captured(site: Site, seed: int) -> str:
    """An image that was kept, and that ann says is red; the id that it would have as a sample."""
    shot = Shot(id=new_id(), data=picture(seed, side=32), why=Why.RANDOM)
    captures.keep(site.home, shot)
    feedback.claim(site.home, "red", actor="ann", capture_id=shot.id)
    return sha256(shot.data)


def test_the_holdout_is_judged_blind(context: BrowserContext, site: Site) -> None:
    page = review(context, site, "?queue=holdout")
    expect(page.locator("#facts")).to_be_hidden()
    words = page.locator("#main").inner_text()
    assert "Predicted" not in words
    check_accessible(page)
    before = len(said(site.home))
    press(page, "Enter")  # there is nothing to keep
    press(page, "1")  # blue
    expect(page.locator("#message")).to_contain_text("recorded")
    assert len(said(site.home)) == before + 1
    assert said(site.home)[-1]["label"] == "blue"
    assert "predicted" not in page.locator("#strip").inner_html()  # nothing of the other list

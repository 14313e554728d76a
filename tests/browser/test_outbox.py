"""Decisions on their way to a server that is gone, slow or deaf for a while: none is lost."""

from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from tests.browser.conftest import Site
from tests.browser.reviewing import (
    OFFLINE,
    current,
    looks_at,
    on_screen,
    press,
    ready,
    review,
    said,
    saved,
)
from toploss import losses


@pytest.fixture
def page(context: BrowserContext, site: Site) -> Page:
    return review(context, site)


def test_what_never_left_is_undone_without_a_word(context: BrowserContext, site: Site) -> None:
    page = review(context, site, expect=OFFLINE)
    first = current(page)
    page.route("**/v1/decisions", lambda route: route.abort())
    press(page, "x")  # it is tried, and so may have been recorded
    press(page, "x")
    press(page, "u")  # of this one the service cannot have heard
    press(page, "u")
    page.unroute("**/v1/decisions")
    saved(page)
    assert [event["action"] for event in said(site.home)] == ["exclude", "undo"]
    assert {event["sample"] for event in said(site.home)} == {first}


def test_a_reload_in_the_middle_loses_nothing(context: BrowserContext, site: Site) -> None:
    page = review(context, site, "?order=margin", expect=OFFLINE)
    press(page, "Enter")
    saved(page)
    page.route("**/v1/decisions", lambda route: route.abort())
    for key in ("x", "Enter", "x"):
        press(page, key)
    press(page, "ArrowRight")
    expect(page.locator("#saves")).to_contain_text("not saved yet")
    here, listed = current(page), page.locator("#filter-order").input_value()
    page.unroute("**/v1/decisions")
    page.reload()
    ready(page)
    saved(page)
    assert (current(page), page.locator("#filter-order").input_value()) == (here, listed)
    assert [event["action"] for event in said(site.home)][:3] == ["confirm", "exclude", "confirm"]
    assert len(said(site.home)) == 4
    press(page, "u")  # also what was decided before the reload
    saved(page)
    assert said(site.home)[-1]["action"] == "undo"


def test_the_server_goes_away_and_comes_back(context: BrowserContext, site: Site) -> None:
    page = review(context, site, expect=OFFLINE)
    listed = [item.id for item in losses.top(site.home, limit=20).items]
    for _ in range(3):
        press(page, "Enter")
    saved(page)
    site.stop()
    for _ in range(6):
        press(page, "Enter")  # the next ten pictures are here already
    expect(page.locator("#saves")).to_contain_text("not saved yet")
    assert on_screen(page) == f"/v1/samples/{listed[9]}/image"
    site.start()
    saved(page)
    assert [event["sample"] for event in said(site.home)] == listed[:9]


def test_of_every_tenth_answer_that_is_lost_nothing_is_lost(
    context: BrowserContext, site: Site
) -> None:
    page = review(context, site, expect=OFFLINE)
    asked = 0

    def unlucky(route: Any) -> None:
        nonlocal asked
        asked += 1
        if asked % 10:
            route.continue_()
        else:  # it was recorded; nobody learns of it
            route.fetch()
            route.abort()

    page.route("**/v1/decisions", unlucky)
    for _ in range(40):
        press(page, "Enter")
    saved(page)
    assert asked == 44
    assert len({event["sample"] for event in said(site.home)}) == len(said(site.home)) == 40


def test_what_was_decided_in_the_grid_outlives_the_network_and_the_page(
    context: BrowserContext, site: Site
) -> None:
    page = review(context, site, "?view=grid", expect=OFFLINE)
    first = page.locator(".tile img").first.get_attribute("src")
    page.route("**/v1/decisions/bulk", lambda route: route.abort())
    page.click("#select-all")
    page.click("#bulk-keep")
    expect(page.locator("#saves")).to_contain_text("60 decisions not saved yet")
    page.reload()
    ready(page)
    expect(page.locator("#saves")).to_contain_text("60 decisions not saved yet")
    expect(page.locator(".tile").first).to_be_visible()
    assert page.locator(".tile img").first.get_attribute("src") != first  # it is not asked again
    assert not said(site.home)

    page.unroute("**/v1/decisions/bulk")
    saved(page)

    events = said(site.home)
    assert [event["action"] for event in events] == ["confirm"] * 60
    assert len({event["sample"] for event in events}) == 60


def test_an_undo_on_its_way_is_not_sent_twice(context: BrowserContext, site: Site) -> None:
    page = review(context, site, expect=OFFLINE)
    first = current(page)
    for key in ("Enter", "x"):
        press(page, key)
        saved(page)
    page.route("**/v1/decisions/*", lambda route: route.abort())
    press(page, "u")
    expect(page.locator("#saves")).to_contain_text("1 decision not saved yet")
    page.reload()
    ready(page)
    press(page, "u")  # takes back the one before, not the same again
    expect(page.locator("#saves")).to_contain_text("2 decisions not saved yet")
    page.unroute("**/v1/decisions/*")
    saved(page)

    events = said(site.home)
    assert [event["action"] for event in events] == ["confirm", "exclude", "undo", "undo"]
    assert [event["undoes"] for event in events[2:]] == [events[1]["id"], events[0]["id"]]
    looks_at(page, first)

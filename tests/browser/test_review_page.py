"""The review as an expert does it: by keyboard, in a real browser."""

import json
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.browser.conftest import WIDTHS, Site, check_accessible, opened, soon
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
    standing,
)
from toploss import decisions, keys, losses
from toploss.keys import Role
from toploss.losses import Filter


@pytest.fixture
def page(context: BrowserContext, site: Site) -> Page:
    return review(context, site)


def test_fifty_decisions_by_keyboard_alone(page: Page, site: Site) -> None:
    listed = [item.id for item in losses.top(site.home, limit=80).items]
    turn = ["Enter", "s", "x", "Space", "2"]
    labels = {item.id: item for item in losses.top(site.home, limit=80).items}
    for number, sample in enumerate(listed[:50]):
        assert on_screen(page) == f"/v1/samples/{sample}/image"
        agreed = labels[sample].label == labels[sample].predicted
        # The suggestion of a model that agrees is none.
        press(page, "Enter" if agreed and number % 5 == 1 else turn[number % 5])
    saved(page)
    events = said(site.home)
    assert [event["sample"] for event in events] == listed[:50]
    wanted = []
    for number, sample in enumerate(listed[:50]):
        item = labels[sample]
        green = "confirm" if item.label == "green" else "relabel"
        wanted.append(["confirm", green, "exclude", "skip", green][number % 5])
    assert [event["action"] for event in events] == wanted
    assert all(event["evidence"]["rank"] for event in events)
    assert all(event["evidence"]["seconds"] < 60 for event in events)
    expect(page.locator("#reviewed")).to_have_text("50")
    expect(page.locator("#left")).to_have_text("30")
    expect(page.locator("#errors")).to_contain_text(" to ")


def test_undo_brings_the_last_one_back(page: Page, site: Site) -> None:
    first = current(page)
    press(page, "x")
    press(page, "Enter")
    saved(page)
    press(page, "u")
    press(page, "u")
    saved(page)
    assert [event["action"] for event in said(site.home)] == ["exclude", "confirm", "undo", "undo"]
    looks_at(page, first)
    press(page, "Enter")  # at its new revision
    saved(page)
    assert standing(site.home, first)["action"] == "confirm"
    assert page.locator("#present").is_hidden()


def test_a_class_is_searched_by_its_letters(page: Page, site: Site) -> None:
    first = current(page)
    press(page, "/")
    page.keyboard.type("re")  # blue, green, red: it begins so, and then has it within
    assert page.locator("#relabel-list li").all_inner_texts() == ["red", "green"]
    check_accessible(page)
    press(page, "ArrowDown")
    press(page, "ArrowUp")
    press(page, "Enter")
    saved(page)
    event = standing(site.home, first)
    assert event["label"] == "red"
    press(page, "/")
    page.keyboard.type("x")  # is typed, and excludes nothing
    press(page, "Escape")
    saved(page)
    assert len(said(site.home)) == 1


def signed_in(browser: Browser, site: Site, secret: str, query: str = "") -> Page:
    context = browser.new_context()
    page = opened(context, site, f"/review{query}", expect="409")
    page.fill("#key", secret)
    press(page, "Enter")
    ready(page)
    return page


def test_two_reviewers_get_different_samples_and_settle_what_both_decide(
    browser: Browser, site: Site
) -> None:
    secrets = {who: keys.create(site.home, who, Role.REVIEW) for who in ("ann", "bob")}
    site.stop()
    site.start()
    ann = signed_in(browser, site, secrets["ann"])
    bob = signed_in(browser, site, secrets["bob"])
    hers, his = current(ann), current(bob)
    assert hers != his

    bob.goto(f"{site.url}/review?sample={hers}")  # somebody has sent him the address
    ready(bob)
    looks_at(bob, hers)
    press(ann, "x")
    saved(ann)
    press(bob, "Enter")
    expect(bob.locator("#present")).to_contain_text("is now excluded, at revision 2")
    check_accessible(bob)
    assert standing(site.home, hers)["actor"] == "ann"
    bob.click("#present-look")
    looks_at(bob, hers)
    press(bob, "Enter")  # knowing it, he decides again
    saved(bob)
    assert standing(site.home, hers)["actor"] == "bob"
    assert standing(site.home, hers)["action"] == "confirm"
    for page in (ann, bob):
        page.context.close()


def test_of_several_that_came_too_late_each_can_be_looked_at(
    context: BrowserContext, site: Site
) -> None:
    page = review(context, site, expect=f"{OFFLINE}|409")
    page.route("**/v1/decisions", lambda route: route.abort())
    late = []
    for _ in range(2):
        late.append(current(page))
        press(page, "Enter")
        soon(lambda: current(page) not in late)
        decisions.decide(site.home, late[-1], "exclude", revision=1, actor="cat")
    page.unroute("**/v1/decisions")
    expect(page.locator("#present")).to_contain_text("So was 1 more", timeout=20_000)
    check_accessible(page)
    for sample in late:
        page.click("#present-look")
        looks_at(page, sample)
    expect(page.locator("#present")).to_be_hidden()


def test_a_pair_is_decided_in_the_grid(page: Page, site: Site) -> None:
    pair = losses.pairs(site.home)[0]
    page.select_option("#pairs", json.dumps([pair.label, pair.predicted], separators=(",", ":")))
    expect(page.locator(".tile")).to_have_count(min(pair.samples, 60))
    check_accessible(page)
    page.locator(".tile").first.focus()
    press(page, "Space")
    press(page, "ArrowRight")
    press(page, "ArrowRight")
    press(page, "Shift+Space")
    expect(page.locator("#selected")).to_have_text("3 selected")
    press(page, "Space")  # and this one not, after all
    expect(page.locator("#selected")).to_have_text("2 selected")
    page.locator(".tile").nth(5).click(modifiers=["Shift"])
    expect(page.locator("#selected")).to_have_text("6 selected")
    page.click("#bulk-suggest")
    expect(page.locator("#message")).to_have_text("6 decided.")
    saved(page)
    assert [event["label"] for event in said(site.home)] == [pair.predicted] * 6
    expect(page.locator(".tile")).to_have_count(min(pair.samples - 6, 60))
    press(page, "g")
    expect(page.locator("#sample")).to_be_visible()
    press(page, "u")
    saved(page)
    assert said(site.home)[-1]["action"] == "undo"


def test_in_the_grid_too_others_are_not_overwritten(page: Page, site: Site) -> None:
    press(page, "g")
    first = losses.top(site.home, limit=1).items[0]
    expect(page.locator(".tile").first).to_be_visible()
    decisions.decide(site.home, first.id, "exclude", revision=first.revision, actor="bob")
    page.click("#select-all")
    page.click("#bulk-keep")
    expect(page.locator("#message")).to_contain_text("59 decided. 1 not")
    assert standing(site.home, first.id)["actor"] == "bob"


def test_keys_are_shown_given_others_and_switched_off(page: Page, site: Site) -> None:
    press(page, "?")
    expect(page.locator("#help")).to_be_visible()
    check_accessible(page)
    press(page, "x")  # not while the keys are shown
    page.click("#key-exclude")
    press(page, "q")
    expect(page.locator("#key-exclude")).to_have_text("Q")
    press(page, "Escape")
    first = current(page)
    press(page, "x")
    press(page, "q")
    saved(page)
    assert [event["action"] for event in said(site.home)] == ["exclude"]
    page.reload()
    ready(page)
    assert page.locator("#exclude kbd").inner_text() == "Q"
    assert page.locator("#exclude").get_attribute("aria-keyshortcuts") == "q"
    assert current(page) != first
    press(page, "?")
    page.uncheck("#keys-on")
    press(page, "Escape")
    press(page, "q")
    page.click("#skip")  # the buttons still do
    saved(page)
    assert [event["action"] for event in said(site.home)] == ["exclude", "skip"]


def test_closer_looks(page: Page, site: Site) -> None:
    expect(page.locator("#top li")).to_have_count(3)
    press(page, "h")
    expect(page.locator("#stage .heat")).to_be_visible()
    width = "document.querySelector('#stage .heat').naturalWidth"
    soon(lambda: page.evaluate(width))
    press(page, "z")
    assert "zoomed" in (page.get_attribute("#stage", "class") or "")
    press(page, "n")
    expect(page.locator("#neighbours")).to_be_visible()
    page.click("#history-box summary")
    expect(page.locator("#history li")).to_contain_text("came in as")
    check_accessible(page)
    press(page, "ArrowRight")
    expect(page.locator("#stage .heat")).to_be_visible()
    press(page, "h")
    expect(page.locator("#stage .heat")).to_have_count(0)


@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_is_accessible(browser: Browser, site: Site, width: int, scheme: Any) -> None:
    context = browser.new_context(
        viewport={"width": width, "height": 800}, color_scheme=scheme, reduced_motion="reduce"
    )
    page = review(context, site)
    check_accessible(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    press(page, "g")
    expect(page.locator(".tile").first).to_be_visible()
    check_accessible(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    context.close()


def test_empty_states_say_what_to_do(context: BrowserContext, bare: Site) -> None:
    page = opened(context, bare, "/review")
    expect(page.locator("#empty-title")).to_have_text("No model yet")
    check_accessible(page)


def test_nothing_found_and_nothing_left(page: Page, site: Site) -> None:
    page.click("#narrow summary")
    page.fill("#filter-text", "no such name")
    press(page, "Enter")
    expect(page.locator("#empty-title")).to_have_text("Nothing here")
    check_accessible(page)
    page.fill("#filter-text", "007")
    press(page, "Enter")
    expect(page.locator("#name")).to_have_text("007.png")
    press(page, "Enter")
    saved(page)
    expect(page.locator("#empty")).to_be_visible()
    page.select_option("#filter-state", "decided")  # where it is found again, without a reload
    expect(page.locator("#name")).to_have_text("007.png")
    assert len(losses.top(site.home, Filter(state="decided")).items) == 1


def test_somebody_else_s_promotion_brings_its_list(
    page: Page, site: Site, export: Any, tmp_path: Any
) -> None:
    from tests.service.conftest import publish, score
    from toploss import models

    version = publish(site.home, export, tmp_path)
    score(site.home, version)
    models.promote(site.home, version, reason="better", actor="test")
    expect(page.locator("#message")).to_contain_text("A new model serves", timeout=10_000)
    expect(page.locator("#versions")).to_contain_text(version[-8:])


def test_nothing_is_decided_that_was_not_seen(context: BrowserContext, site: Site) -> None:
    page = opened(context, site, "/login", expect=OFFLINE)
    page.route("**/image", lambda route: route.abort())
    page.goto(f"{site.url}/review")
    ready(page)
    page.keyboard.press("Enter")
    expect(page.locator("#message")).to_contain_text("cannot be shown")
    assert said(site.home) == []
    page.keyboard.press("x")  # it can be set aside
    saved(page)
    page.unroute("**/image")
    page.keyboard.press("Enter")  # asks for it again
    press(page, "Enter")
    saved(page)
    assert [event["action"] for event in said(site.home)] == ["exclude", "confirm"]

"""The data set's page: counts, findings, growth, and whether a retraining is due."""

from playwright.sync_api import BrowserContext, expect

from tests.browser.conftest import WIDTHS, Site, check_accessible, opened
from toploss import classes, policy


def test_it_counts_finds_and_says_what_the_policy_waits_for(
    context: BrowserContext, site: Site
) -> None:
    policy.pause(site.home, reason="the lamps are changed", actor="ann")
    page = opened(context, site, "/data")
    page.wait_for_selector("#classes")
    check_accessible(page)

    rows = [row.split() for row in page.inner_text(".classes tbody").splitlines() if row.strip()]
    assert [row[0] for row in rows] == ["blue", "green", "red"]
    assert sum(int(row[-1]) for row in rows) == 90
    assert "'blue' has 0 in train" in page.inner_text(".findings")
    assert "Paused: the lamps are changed" in page.inner_text("main")
    assert page.get_by_role("img", name="Samples that came in: 90").is_visible()
    assert "Came in: 90 in a day" in page.inner_text("figcaption")

    page.emulate_media(color_scheme="dark")
    page.set_viewport_size({"width": WIDTHS["phone"], "height": 800})
    check_accessible(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= WIDTHS["phone"]


def test_many_classes_are_paged(context: BrowserContext, site: Site) -> None:
    with site.home.db.write() as connection:
        for number in range(60):
            classes.ensure(connection, f"kind {number:02}", "test")
    page = opened(context, site, "/data")
    page.click("[rel=next]")
    expect(page.locator(".turn span")).to_have_text("2 of 2", timeout=20_000)

    shown = page.locator(".classes tbody tr")
    assert (shown.count(), shown.last.inner_text().split("\t")[0]) == (13, "red")


def test_what_comes_later_may_fail_and_is_asked_for_again(
    context: BrowserContext, site: Site
) -> None:
    context.route("**/data/counts*", lambda route: route.abort())
    page = opened(context, site, "/data", expect="ERR_FAILED")
    page.wait_for_selector("text=The service does not answer")
    check_accessible(page)

    context.unroute("**/data/counts*")
    page.get_by_role("button", name="Try again").click()
    page.wait_for_selector("#classes")

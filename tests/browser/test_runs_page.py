"""The runs' pages: what was asked for, how far it is, what came of it."""

from typing import Any

from playwright.sync_api import BrowserContext, Route

from service.pages import LOOK_MS
from tests.browser.conftest import WIDTHS, Site, check_accessible, opened, soon
from toploss import attempts, models, records, runs
from toploss.attempts import Lease
from toploss.home import Home
from toploss.plan import Plan
from toploss.states import RunState


def epoch(number: int) -> dict[str, Any]:
    return {
        "stage": "stage-1",
        "epoch": number,
        "train_loss": 2 / number,
        "valid_loss": 2.2 / number,
        "plain_loss": 1.9 / number,
        "accuracy": 1 - 0.5 / number,
        "plain_accuracy": 1 - 0.4 / number,
    }


def running(home: Home) -> Lease:
    """A run that nobody trains."""
    plan = Plan.from_settings(home.settings)
    lease = runs.start(home, plan, owner="elsewhere:1:0", actor="ann", promote=True)
    attempts.note(home, lease, stage="stage-1", epochs=4)
    return lease


def learned(home: Home, lease: Lease, epochs: int) -> None:
    history = [epoch(number) for number in range(1, epochs + 1)]
    attempts.note(home, lease, epoch=epochs, history=history)
    lines = "".join(f"epoch {number} is done\n" for number in range(1, epochs + 1))
    home.blobs.put(records.log_path(lease.run, lease.fence), lines.encode())


def test_a_run_grows_while_it_is_looked_at(context: BrowserContext, site: Site) -> None:
    lease = running(site.home)
    context.clock.install()
    page = opened(context, site, f"/runs/{lease.run}")
    assert "They come with the first epoch" in page.inner_text("#charts")
    check_accessible(page)

    for epochs in (1, 3):
        learned(site.home, lease, epochs)
        page.clock.fast_forward(LOOK_MS)
        page.wait_for_selector(f"#state:has-text('epoch {epochs} of 4')")
        losses = page.get_by_role("img", name="Losses after every epoch")
        assert losses.locator("circle.valid").count() == epochs
        assert f"epoch {epochs} is done" in page.inner_text("#tail")
    check_accessible(page)

    with site.home.db.write() as connection:
        attempts.finish(connection, lease, RunState.FAILED, error="the disk is full")
    page.clock.fast_forward(LOOK_MS)
    page.wait_for_selector("#state:has-text('failed')")
    assert "the disk is full" in page.inner_text("#error")
    assert page.get_by_role("button", name="Cancel").count() == 0
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.clock.fast_forward(2 * LOOK_MS)
    page.wait_for_timeout(300)
    assert asked == [], "what has ended is not asked after"

    page.emulate_media(color_scheme="dark")
    page.set_viewport_size({"width": WIDTHS["phone"], "height": 800})
    check_accessible(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= WIDTHS["phone"]


def test_retrain_and_cancel_by_keyboard(context: BrowserContext, site: Site) -> None:
    page = opened(context, site, "/runs")
    check_accessible(page)
    page.get_by_role("button", name="Retrain now").focus()
    page.keyboard.press("Enter")
    page.keyboard.type("new light")
    page.keyboard.press("Enter")
    soon(lambda: "is queued" in page.inner_text("#message"))
    run = records.listed(site.home)[0]
    assert [asked["reason"] for asked in run["reasons"]] == ["new light"]
    page.wait_for_selector("#list:has-text('new light')")

    page.get_by_role("link", name=run["id"][-8:]).click()
    page.wait_for_url(f"**/runs/{run['id']}")
    page.get_by_role("button", name="Cancel").focus()
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Cancel the run").focus()
    page.keyboard.press("Enter")
    soon(lambda: page.inner_text("#message") == "The run is cancelled.")
    assert records.show(site.home, run["id"])["state"] == "cancelled"
    page.wait_for_selector("#state:has-text('cancelled')")


def test_a_service_that_is_away_is_told_and_found_again(
    context: BrowserContext, site: Site
) -> None:
    def away(route: Route) -> None:
        route.abort()

    lease = running(site.home)
    context.clock.install()
    page = opened(context, site, f"/runs/{lease.run}", expect="ERR_FAILED")
    context.route("**/runs/*", away)
    page.clock.fast_forward(LOOK_MS)
    page.wait_for_selector("#offline:has-text('does not answer')")
    check_accessible(page)
    context.unroute("**/runs/*", away)
    page.clock.fast_forward(LOOK_MS)
    page.wait_for_selector("#offline", state="hidden")


def test_what_came_of_a_run(context: BrowserContext, site: Site) -> None:
    version = models.get(site.home, "production")
    page = opened(context, site, "/runs")
    check_accessible(page)
    page.get_by_role("link", name=version.run[-8:]).click()
    page.get_by_role("link", name=version.name[-8:]).click()
    page.wait_for_url(f"**/models/{version.name}")

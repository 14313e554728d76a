"""The versions' page: what each is worth, and the moves of production."""

from pathlib import Path

from playwright.sync_api import BrowserContext, Page

from tests.browser.conftest import WIDTHS, Site, check_accessible, opened, soon
from tests.service.conftest import frozen, publish
from toploss import keys, models, policy
from toploss.keys import Role


def told(page: Page) -> str:
    return page.inner_text("#message")


def test_promote_and_roll_back_by_keyboard(
    context: BrowserContext, site: Site, export: Path, tmp_path: Path
) -> None:
    first = models.get(site.home, "production").name
    second = publish(site.home, export, tmp_path)
    page = opened(context, site, "/models")
    check_accessible(page)

    page.get_by_role("button", name="Promote version").focus()
    page.keyboard.press("Enter")
    assert page.get_by_role("dialog", name=f"Promote …{second[-8:]}?").is_visible()
    check_accessible(page)
    page.keyboard.press("Enter")  # without a reason: nothing happens
    assert models.get(site.home, "production").name == first
    page.keyboard.type("sees more")
    page.keyboard.press("Enter")
    soon(lambda: "generation 2" in told(page))
    assert second[-8:] in told(page)
    soon(lambda: f"…{second[-8:]}, generation 2" in page.inner_text("#production"))
    assert "sees more" in page.inner_text("#move-list")
    alias = models.production(site.home)
    assert alias is not None
    assert (alias.version, alias.reason) == (second, "sees more")

    back = page.get_by_role("button", name="Roll back")
    back.focus()
    page.keyboard.press("Enter")
    page.keyboard.type("worse in the dark")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    soon(lambda: "Automatic retraining is paused" in told(page))
    assert models.get(site.home, "production").name == first
    assert policy.due(site.home).paused
    soon(lambda: back.count() == 0)  # no version served before it
    assert page.evaluate("document.activeElement.id") == "message"

    page.emulate_media(color_scheme="dark")
    page.set_viewport_size({"width": WIDTHS["phone"], "height": 800})
    check_accessible(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= WIDTHS["phone"]


def test_what_is_refused_is_told_where_it_was_asked(
    context: BrowserContext, site: Site, export: Path, tmp_path: Path
) -> None:
    models.promote(site.home, publish(site.home, export, tmp_path), reason="x", actor="test")
    page = opened(context, site, "/models", expect="409")
    models.rollback(site.home, reason="somebody else was faster", actor="ben")

    page.get_by_role("button", name="Roll back").click()
    page.keyboard.type("worse")
    page.keyboard.press("Enter")

    page.wait_for_selector("#act-problem:not(:empty)")
    assert "has moved to generation 3 since 2" in page.inner_text("#act-problem")
    check_accessible(page)
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.textContent").startswith("Roll back")


def test_a_version_has_a_page(context: BrowserContext, site: Site) -> None:
    version = models.get(site.home, "production")
    page = opened(context, site, "/models")
    page.locator("#list").get_by_role("link", name=version.name[-8:]).click()
    page.wait_for_url(f"**/models/{version.name}")

    shown = page.inner_text("main")
    assert version.name in shown
    assert "blue, green, red" in shown
    assert "production, generation 1" in shown
    check_accessible(page)


def test_from_a_version_s_lineage_to_a_sample_and_back(context: BrowserContext, site: Site) -> None:
    version = models.get(site.home, "production").name
    frozen(site.home, version)
    page = opened(context, site, f"/models/{version}")
    page.wait_for_selector("text=generation 1: test")
    assert "never" not in page.inner_text("[data-part]")
    check_accessible(page)

    with page.expect_download() as file:
        page.get_by_role("link", name="each as CSV").click()
    sample = Path(file.value.path()).read_text().splitlines()[1][:64]
    page = opened(context, site, f"/samples/{sample}")
    for scheme, width in (("light", "wide"), ("dark", "phone")):
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]  # one of its words
        page.set_viewport_size({"width": WIDTHS[width], "height": 800})
        check_accessible(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= WIDTHS[width]
    page.get_by_role("link", name=version[-8:]).click()
    page.wait_for_url(f"**/models/{version}")


def test_an_unknown_version_is_told_on_a_page(context: BrowserContext, site: Site) -> None:
    page = opened(context, site, "/models/nobody", expect="404")
    assert "here is no version 'nobody'" in page.inner_text("main")
    check_accessible(page)


def test_a_reviewer_looks_and_moves_nothing(
    context: BrowserContext, site: Site, export: Path, tmp_path: Path
) -> None:
    publish(site.home, export, tmp_path)
    secret = keys.create(site.home, "ann", Role.REVIEW)
    site.stop()
    site.start()
    page = opened(context, site, "/models")
    page.fill("#key", secret)
    page.keyboard.press("Enter")
    page.wait_for_url("**/models")

    assert page.locator("#list tbody tr").count() == 2
    assert page.locator("[data-act]").count() == 0
    assert page.locator("dialog").count() == 0

from playwright.sync_api import BrowserContext

from tests.browser.conftest import Site, check_accessible, opened
from toploss import keys
from toploss.keys import Role


def test_who_has_a_key_comes_in_and_out(context: BrowserContext, bare: Site) -> None:
    secret = keys.create(bare.home, "ann", Role.REVIEW)
    bare.stop()
    bare.start()  # the keys are looked at every few seconds, and now
    page = opened(context, bare, "/review", expect="401")
    assert page.url.endswith("/login?next=%2Freview")
    check_accessible(page)
    page.fill("#key", "wrong")
    page.keyboard.press("Enter")
    page.wait_for_selector("[role=alert]")
    check_accessible(page)
    page.fill("#key", secret)
    page.keyboard.press("Enter")
    page.wait_for_url("**/review")
    assert page.inner_text(".sign-out .soft") == "ann"
    page.click(".sign-out button")
    page.wait_for_url("**/login**")  # by the button, or by what the page asked meanwhile


def test_a_long_address_waits_behind_the_sign_in(context: BrowserContext, bare: Site) -> None:
    secret = keys.create(bare.home, "ann", Role.REVIEW)
    bare.stop()
    bare.start()
    page = opened(context, bare, "/review?ignored=" + "x" * 700, expect="401")
    page.fill("#key", secret)
    page.keyboard.press("Enter")
    page.wait_for_url("**/review?ignored=x*")

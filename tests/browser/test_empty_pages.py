from playwright.sync_api import BrowserContext

from tests.browser.conftest import Site, check_accessible, opened


def test_where_there_is_nothing_each_page_says_how_to_begin(
    context: BrowserContext, bare: Site
) -> None:
    for path, command in (
        ("/data", "toploss import FOLDER"),
        ("/models", "toploss train"),
        ("/runs", "toploss dispatch"),
    ):
        page = opened(context, bare, path)
        assert command in page.inner_text("main")
        check_accessible(page)

"""The pages: what a browser shows. They run our own scripts and nothing else, and read what they
show from the same routes as every other client."""

from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request, Response
from starlette.staticfiles import StaticFiles
from starlette.templating import Jinja2Templates

from service.auth import caller_of
from service.desk import OurHome
from toploss.home import Home

router = APIRouter(tags=["pages"])

WEB = Path(__file__).parent / "web"
templates = Jinja2Templates(WEB)
STRICT = (
    "default-src 'none'; img-src 'self' blob:; script-src 'self'; style-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)


@router.get("/review", summary="The review page", response_class=Response)
def review_page(home: OurHome, request: Request) -> Response:
    return signed_page(home, request, "review.html")


def signed_page(home: Home, request: Request, template: str, **values: Any) -> Response:
    """A page for who is signed in, with the token that a change has to bring along."""
    caller = caller_of(request.scope)
    who = caller.key if caller.session else None
    return page(home, request, template, csrf=caller.csrf, key=caller.key, who=who, **values)


def page(
    home: Home, request: Request, template: str, *, status: int = 200, **values: Any
) -> Response:
    return templates.TemplateResponse(
        request,
        template,
        {"name": home.settings.name, "here": request.url.path, **values},
        status_code=status,
        headers={"Content-Security-Policy": STRICT},
    )


class Assets(StaticFiles):
    """The pages' scripts and styles: kept by browsers, and asked after each time."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        response = super().file_response(*args, **kwargs)
        response.headers["Cache-Control"] = "no-cache"
        return response

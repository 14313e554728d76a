"""Signing in to the pages with a key."""

from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import RedirectResponse, Response

from service.auth import COOKIE, SESSION_S
from service.desk import OurDesk, OurHome
from service.pages import page
from toploss.keys import Role

router = APIRouter(tags=["pages"])

Next = Annotated[str, Query(alias="next", description="a path of ours")]


@router.get("/login", summary="The page to sign in on", response_class=Response)
def login_page(home: OurHome, request: Request, after: Next = "/review") -> Response:
    return page(home, request, "login.html", after=_ours(after), refused="")


@router.post(
    "/login",
    summary="Sign in with a key",
    response_class=Response,
    status_code=303,
    responses={
        status: {"content": {"text/html": {}}, "description": "The page again."}
        for status in (401, 403)
    },
)
def login(
    home: OurHome,
    desk: OurDesk,
    request: Request,
    key: Annotated[str, Form(max_length=200)],
    after: Next = "/review",
) -> Response:
    """A session in a cookie; 401 and the page again, if the key is not in force; 403, if it is for
    programs alone."""
    holder = desk.doorkeeper.ring.holder(key.strip())
    session = desk.doorkeeper.sign_in(key.strip())
    if holder is None or session is None:
        return _again(home, request, after, 401, "That key is not in force.")
    if not holder.role.covers(Role.REVIEW):
        return _again(home, request, after, 403, f"Key {holder.name} is for predictions alone.")
    answer = RedirectResponse(_ours(after), 303)
    answer.set_cookie(
        COOKIE,
        session,
        max_age=SESSION_S,
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https"
        or request.headers.get("x-forwarded-proto", "") == "https",
    )
    return answer


def _again(home: OurHome, request: Request, after: str, status: int, refused: str) -> Response:
    return page(home, request, "login.html", status=status, after=_ours(after), refused=refused)


@router.post("/logout", summary="Sign out", response_class=Response, status_code=303)
def logout() -> Response:
    answer = RedirectResponse("/login", 303)
    answer.delete_cookie(COOKIE)
    return answer


def leads_to_login(path: str, query: bytes) -> Response:
    """A browser that is not signed in."""
    where = path + (f"?{query.decode('latin-1')}" if query else "")
    return RedirectResponse(f"/login?next={quote(where, safe='')}", 303)


def _ours(path: str) -> str:
    """The path, if it stays on this service; else the review."""
    stays = path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable()
    return path if stays else "/review"

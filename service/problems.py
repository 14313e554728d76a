"""Domain errors as HTTP responses: one table, and the bodies of RFC 9457."""

import re
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.responses import JSONResponse

from service.connection import Gone
from toploss import errors
from toploss.errors import ToplossError, UnsupportedType

MEDIA_TYPE = "application/problem+json"
FORMS = ("multipart/form-data", "application/x-www-form-urlencoded")
RETRY_AFTER_S = 1

# The nearest base class counts. What is not the caller's fault and passes is 503; 500 is a bug.
STATUS: dict[type[ToplossError], int] = {
    errors.BadInput: 400,
    errors.TooLarge: 413,
    errors.UnsupportedType: 415,
    errors.UnknownLabel: 422,
    errors.NotFound: 404,
    errors.NotKept: 410,
    errors.Erased: 410,
    errors.Stale: 409,
    errors.Refused: 409,
    errors.BadData: 409,
    errors.CapReached: 429,
    errors.NoModel: 503,
    errors.Overloaded: 503,
    errors.TimedOut: 504,
    Gone: 408,
    errors.Broken: 503,
    errors.BadSettings: 503,
    errors.WrongSchema: 503,
    ToplossError: 500,
}

# How OpenAPI shows every route's errors; it takes the place of FastAPI's own 422.
DECLARED: dict[int | str, dict[str, Any]] = {
    "default": {
        "description": "A problem (RFC 9457): what happened, with which value, and the remedy.",
        "content": {
            MEDIA_TYPE: {
                "schema": {
                    "type": "object",
                    "required": ["type", "title", "status", "detail"],
                    "properties": {
                        "type": {"type": "string"},
                        "title": {"type": "string"},
                        "status": {"type": "integer"},
                        "detail": {"type": "string"},
                        "present": {"type": "object", "description": "of a 409: what stands now"},
                    },
                }
            }
        },
    }
}


def status_of(error: ToplossError) -> int:
    """That of the nearest class in the table."""
    return next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)


def body_of(error: ToplossError) -> dict[str, Any]:
    """The problem's members, as a batch carries them too."""
    name = _words(type(error).__name__)
    body = {
        "type": f"urn:toploss:{name.replace(' ', '-').lower()}",
        "title": name,
        "status": status_of(error),
        "detail": str(error),
    }
    return body | ({"present": error.present} if error.present else {})


def body_of_any(error: ToplossError | RequestValidationError) -> dict[str, Any]:
    """The problem's members, of a wrong field too."""
    if isinstance(error, ToplossError):
        return body_of(error)
    return {"title": HTTPStatus(400).phrase, "status": 400, "detail": _in_words(error)}


def response_to(error: ToplossError) -> JSONResponse:
    """A domain error as a problem, with `Retry-After` where one may come again."""
    body, headers = body_of(error), _retry(status_of(error))
    if isinstance(error, errors.CapReached):
        headers = {"Retry-After": str(error.retry_after_s)}
    return JSONResponse(body, body["status"], headers, media_type=MEDIA_TYPE)


def response(status: int, detail: str, headers: dict[str, str] | None = None) -> JSONResponse:
    """A problem that no domain error stands behind."""
    body = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
    }
    return JSONResponse(body, status, _retry(status) | (headers or {}), media_type=MEDIA_TYPE)


def install(api: FastAPI) -> None:
    """Have every error that a route raises answered as a problem."""

    @api.exception_handler(ToplossError)
    async def _domain(_request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, ToplossError)
        return response_to(error)

    @api.exception_handler(RequestValidationError)
    async def _field(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        if (unread := _unread_type(request, error)) is not None:
            return response_to(unread)
        return response(400, _in_words(error))

    @api.exception_handler(HTTPException)
    async def _plain(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        phrase = HTTPStatus(error.status_code).phrase
        detail = str(error.detail)
        if detail == phrase:
            told_of = request.method, request.url.path, request.app.state.elsewhere
            detail = told(error.status_code, *told_of)
        elif isinstance(error.__context__, MultiPartException):
            detail = f"the form cannot be read: {detail.rstrip('.')}; correct it and send it again"
        elif isinstance(error.__cause__, UnicodeError | RecursionError):
            detail = "the body is not JSON in UTF-8, or is nested too deep; correct it"
        return response(error.status_code, detail, dict(error.headers or {}))


def told(status: int, method: str, path: str, elsewhere: str) -> str:
    """What a bare status means for this request, in words.

    Args:
        elsewhere: what to do where there is no such route.
    """
    path = path[:200]
    if status == 404:
        return f"there is nothing at {path}; {elsewhere}"
    if status == 405:
        return f"{method} is not answered at {path}; the Allow header names what is"
    if status >= 500:
        return f"{method} {path} failed in the service; its log says why"
    return f"{method} {path} is not answered: {HTTPStatus(status).phrase}; correct the request"


def _unread_type(request: Request, error: RequestValidationError) -> UnsupportedType | None:
    """Whether the fields are not there because the body is of another type than the route reads:
    FastAPI takes it for bytes where it wants JSON, and for an empty form where it wants one."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if isinstance(error.body, bytes):
        remedy = "send JSON, with `Content-Type: application/json`"
    elif isinstance(error.body, FormData) and kind and kind not in FORMS:
        remedy = "send a form, `multipart/form-data`"
    else:
        return None
    return UnsupportedType(f"a body of type {kind[:80]!r} is not read here; {remedy}")


def _in_words(error: RequestValidationError) -> str:
    """The first wrong field: its place, its value, what was expected."""
    fault = error.errors()[0]
    place = [str(part) for part in fault["loc"]]
    where = f"{place[0]} field {'.'.join(place[1:])!r}" if place[1:] else f"the {place[0]}"
    reason = str(fault["msg"]).removeprefix("Value error, ")
    if fault["type"] == "missing":
        return f"{where} is missing; send it"
    if fault["type"] == "json_invalid":
        return f"the body is not JSON ({fault.get('ctx', {}).get('error', reason)}); correct it"
    if "UploadFile" in reason:
        return f"{where} is text, not a file; send the image itself, addresses are not fetched"
    return f"{where} is {_shown(fault.get('input'))}: {reason}; correct it and send it again"


def _shown(value: Any) -> str:
    if isinstance(value, UploadFile):
        return "a file"
    text = "null" if value is None else ascii(value)
    return text if len(text) <= 80 else f"{text[:77]}…"


def _words(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", " ", name).capitalize()


def _retry(status: int) -> dict[str, str]:
    return {"Retry-After": str(RETRY_AFTER_S)} if status == 503 else {}

"""Our log lines: each says which request it belongs to. As text, or as one JSON object a line."""

import json
import logging
import re
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

from opentelemetry import trace
from starlette.datastructures import Headers

from toploss.ids import new_id

HEADER = "X-Request-ID"
SENSIBLE = re.compile(r"[A-Za-z0-9._:-]{1,64}")
LONGEST = 500  # characters of an error
FIELD = re.compile(r"\b([a-z_]+)=([^\s;,]+)")  # as our messages have them

_request: ContextVar[str] = ContextVar("request", default="")


def begin(headers: Headers) -> str:
    """The id of the request that this task answers from now on: what the caller calls it, if that
    is a sensible name; else the trace's, which BentoML's own lines carry."""
    given = headers.get(HEADER, "")
    span = trace.get_current_span().get_span_context()
    if SENSIBLE.fullmatch(given):
        name = given
    elif span.is_valid:
        name = trace.format_trace_id(span.trace_id)
    else:
        name = new_id()
    _request.set(name)
    return name


def install(form: str, level: str = "info") -> None:
    """To standard error.

    Args:
        form: `text` or `json`; the latter is BentoML's lines' as well.
        level: `info` or `debug`.
    """
    ours = logging.getLogger("toploss")
    ours.setLevel(level.upper())
    ours.handlers = [_as(form, logging.StreamHandler())]
    ours.propagate = False
    if form == "json":
        for handler in logging.getLogger("bentoml").handlers:
            _as(form, handler)


def _as(form: str, handler: logging.Handler) -> logging.Handler:
    handler.setFormatter(Json() if form == "json" else Text())
    return handler


def in_a_line(exc: Exception) -> str:
    """An error whose traceback is told at the level of debug, if at all."""
    return repr(exc)[:LONGEST]


class Text(logging.Formatter):
    """For people: a line, and which request it belongs to."""

    def format(self, record: logging.LogRecord) -> str:
        head = f"{_time(record)} [{record.levelname}] {record.name} "
        name = _request.get()
        return head + super().format(record) + (f" request={name}" if name else "")


class Json(logging.Formatter):
    """For machines: `name=value` pairs of our own lines are members of their own."""

    def format(self, record: logging.LogRecord) -> str:
        message = record.getMessage()
        line: dict[str, Any] = dict(FIELD.findall(message)) if _is_ours(record) else {}
        line |= {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": message,
        }
        if name := _request.get():
            line["request"] = name
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def _is_ours(record: logging.LogRecord) -> bool:
    return record.name.partition(".")[0] == "toploss"


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")

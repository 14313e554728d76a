"""The edge of the command line: answers in text or JSON, errors as a line and an exit code."""

import functools
import inspect
import json
import logging
import os
import sys
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

_endings: list[Callable[[], None]] = []

FAILED, USAGE, REFUSED, NOT_FOUND = 1, 2, 3, 4
MOST_TOLD = 20  # lines of one kind

JsonFlag = Annotated[bool, typer.Option("--json", help="Answer in JSON on standard output.")]
DebugFlag = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


class Answer:
    """What a command found: for programs and for people, with its exit code.

    Args:
        data: for programs; None: what was asked for is out already.
        complaint: why the code is not 0: the line on standard error.
    """

    def __init__(self, data: Any, text: str, code: int = 0, complaint: str = "") -> None:
        self.data, self.text, self.code, self.complaint = data, text, code, complaint


def command(app: typer.Typer, name: str) -> Callable[[Callable[..., Answer]], None]:
    """Register a function that returns an Answer as a command with `--json` and `--debug`."""

    def register(function: Callable[..., Answer]) -> None:
        @functools.wraps(function)
        def run(*args: Any, as_json: bool, debug: bool, **kwargs: Any) -> None:
            _log_to_stderr()
            try:
                try:
                    answer = function(*args, **kwargs)
                finally:
                    _end()
            except KeyboardInterrupt as stopped:
                _fail(str(stopped) or "interrupted", 130)
            except (typer.BadParameter, typer.Exit):
                raise  # wrong usage, told as Typer tells it; or an end without a word
            except Exception as exc:  # the edge: every error becomes a line and a code
                if debug:
                    traceback.print_exc()
                _fail(_line(exc), _code(exc))
            _print(answer, as_json)

        signature = inspect.signature(function)
        keyword = inspect.Parameter.KEYWORD_ONLY
        extra = [
            inspect.Parameter("as_json", keyword, default=False, annotation=JsonFlag),
            inspect.Parameter("debug", keyword, default=False, annotation=DebugFlag),
        ]
        run.__signature__ = signature.replace(  # type: ignore[attr-defined]  # what Typer reads
            parameters=[*signature.parameters.values(), *extra], return_annotation=None
        )
        run.__annotations__ = {p.name: p.annotation for p in extra} | function.__annotations__
        run.__annotations__.pop("return", None)
        app.command(name)(run)

    return register


def at_end(call: Callable[[], None]) -> None:
    """To be called when the command has ended, well or not, before anything is said of it."""
    _endings.append(call)


def _end() -> None:
    while _endings:
        _endings.pop()()


def table(head: list[str], rows: list[list[Any]]) -> str:
    """Columns of text, numbers to the right."""
    cells = [[_cell(value) for value in row] for row in rows]
    widths = [max(len(line[i]) for line in [head, *cells]) for i in range(len(head))]
    numbers = [
        bool(rows) and all(isinstance(row[i], int | float) or row[i] is None for row in rows)
        for i in range(len(head))
    ]

    def line(values: list[str]) -> str:
        padded = (
            value.rjust(width) if number else value.ljust(width)
            for value, width, number in zip(values, widths, numbers, strict=True)
        )
        return "  ".join(padded).rstrip()

    return "\n".join(line(values) for values in [head, *cells])


def first_of(lines: list[str]) -> list[str]:
    """The first of many lines of one kind, and how many more there are."""
    more = len(lines) - MOST_TOLD
    rest = [f"  … and {more} more like this; --json has all"] if more > 0 else []
    return [f"  {line}" for line in lines[:MOST_TOLD]] + rest


def when(seconds: float | None) -> str:
    """A time of the database for people: local, to the minute."""
    from datetime import datetime

    return "" if seconds is None else f"{datetime.fromtimestamp(seconds):%Y-%m-%d %H:%M}"


def write(file: Path, content: bytes) -> None:
    """Write what was asked for to a file. Raises BadInput, if that cannot be."""
    try:
        file.write_bytes(content)
    except OSError as exc:
        raise _unwritable(file, exc) from exc


def write_whole(file: Path, pieces: Iterable[str]) -> None:
    """Write a file piece by piece; it is there when it is whole, else it is as it was. Raises
    BadInput, if it cannot be written."""
    try:
        if file.exists() and not file.is_file():  # a pipe, say
            with file.open("w", encoding="utf-8", newline="") as out:
                out.writelines(pieces)
            return
        target = file.resolve()
        part = target.with_name(f".{target.name[:200]}.{os.getpid()}.part")
        try:
            with part.open("w", encoding="utf-8", newline="") as out:
                out.writelines(pieces)
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
    except OSError as exc:
        raise _unwritable(file, exc) from exc


def _unwritable(file: Path, exc: OSError) -> Exception:
    from toploss.errors import BadInput

    return BadInput(f"{str(file)!r} cannot be written ({exc.strerror}); name another file")


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def _print(answer: Answer, as_json: bool) -> None:
    if as_json and answer.data is not None:
        print(json.dumps(answer.data, indent=2))
    elif answer.text:
        print(answer.text)
    if answer.code:
        _fail(answer.complaint, answer.code)


def _fail(line: str, code: int) -> NoReturn:
    print(f"toploss: {line}", file=sys.stderr)
    raise typer.Exit(code)


def _line(exc: Exception) -> str:
    from toploss.errors import ToplossError

    if isinstance(exc, ToplossError):
        return " ".join(str(exc).split())
    return (
        f"{type(exc).__name__}: {' '.join(str(exc).split())} (run again with --debug to see where)"
    )


def _code(exc: Exception) -> int:
    from toploss import errors

    if isinstance(exc, errors.NotFound):
        return NOT_FOUND
    if isinstance(exc, errors.OutOfRange):
        return USAGE
    return REFUSED if isinstance(exc, errors.Refused | errors.Stale) else FAILED


class _Stderr(logging.StreamHandler):  # type: ignore[type-arg]
    """Standard error as it is at the moment: a progress bar takes its place while it is shown."""

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr
        super().emit(record)


def _log_to_stderr() -> None:
    logger = logging.getLogger("toploss")
    if not logger.handlers:
        handler = _Stderr()
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
        logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False

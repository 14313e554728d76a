"""Decisions that were made elsewhere, out of the files that other tools write; what each row says,
whatever is known of it here. docs/review.md has the columns, and where they come from.

What a machine suggests is no decision: only what a person has resolved counts.
"""

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import chain
from pathlib import PurePosixPath
from typing import Any, BinaryIO

from toploss import ids, tables, times
from toploss.errors import BadInput
from toploss.events import ACTIONS, Kind
from toploss.preprocess import SUFFIXES
from toploss.tables import Row

LONGEST = 2000  # characters of what a row says in one place
UNREADABLE = 1000  # rows at the start of a file, before it is given up
# Where an image is told, the surest first.
IMAGE = ("sample", "image", "file", "filename", "path", "image_path", "name")

# cleanlab's `Datalab.get_issues` and `find_label_issues`, Cleanlab Studio's columns.
SUGGESTED = frozenset(
    {"is_label_issue", "label_score", "label_quality", "given_label", "predicted_label"}
    | {"label_issue_score", "suggested_label", "cleanlab_suggested_label"}
)
# Cleanlab Studio's, with the project's details (`include_project_details`): what a person did.
RESOLVED = frozenset({"corrected_label", "cleanlab_corrected_label", "cleanlab_action"})
CLEANLAB_ACTIONS = {"keep": Kind.CONFIRM, "confirm": Kind.CONFIRM, "exclude": Kind.EXCLUDE}

# Label Studio's own columns of JSON_MIN and CSV, beside the task's data and the answers.
ABOUT = frozenset(
    {"id", "annotator", "annotation_id", "created_at", "updated_at", "lead_time"}
    | {"was_cancelled", "agreement"}
)
ANSWER = ("choice", "choices", "label", "class")


class Format(StrEnum):
    AUTO = "auto"
    CSV = "csv"  # our own trail, also as JSON, or any table of images and labels
    CLEANLAB = "cleanlab"
    LABEL_STUDIO = "label-studio"


@dataclass(frozen=True, kw_only=True, slots=True)
class Said:
    """What somebody decided of one image."""

    row: int  # the file's line, or the task's place in its list, from 1
    image: str  # a sample's id, or a name, path or address that ends in one's file name
    action: str | None = None  # a decision's, or undo; none: as the label says
    label: str | None = None
    before: str | None = None  # the label that was seen
    seen: int | None = None  # the sample's revision that was seen
    by: str | None = None
    at: float | None = None  # seconds since 1970
    event: str | None = None  # of our own trail: its id there
    revision: int | None = None  # likewise: the sample's, after it, there
    undoes: str | None = None  # of an undo: the event taken back
    votes: bool = False  # one of several people who were asked the same
    unclear: str | None = None  # why it cannot be told what was decided


@dataclass(frozen=True, kw_only=True, slots=True)
class Unread:
    """A row that says nothing that we understand."""

    row: int
    reason: str


# What is understood of a row: None where nobody has decided.
Understood = Said | Unread | None


def read(file: BinaryIO, wanted: Format) -> tuple[Format, Iterator[Understood]]:
    """The format of a file, and what its rows say, one by one.

    Raises:
        BadInput: it is no such file, or has nothing that anybody decided; it may come late.
    """
    rows = tables.read(file)
    start: list[Row] = []
    for row in rows:
        start.append(row)
        if not isinstance(row[1], str):
            break
        if len(start) == UNREADABLE:
            raise BadInput(
                f"none of the first {UNREADABLE:,} rows can be read, the first because {row[1]}"
            )
    first = start[-1][1] if start else {}
    columns = frozenset(first) if isinstance(first, dict) else frozenset()
    found = _recognised(columns) if wanted is Format.AUTO else wanted
    if columns:
        _CHECKS[found](columns)
    return found, _understood(_READERS[found], chain(start, rows))


def _understood(
    reader: Callable[[int, Mapping[str, Any]], Iterator[Said | None]], rows: Iterator[Row]
) -> Iterator[Understood]:
    for number, row in rows:
        if isinstance(row, str):
            yield Unread(row=number, reason=row)
            continue
        try:
            yield from reader(number, row)
        except BadInput as exc:
            yield Unread(row=number, reason=str(exc))


def _recognised(columns: frozenset[str]) -> Format:
    if columns & {"annotations", "completions", "annotation_id"}:
        return Format.LABEL_STUDIO
    return Format.CLEANLAB if columns & (SUGGESTED | RESOLVED) else Format.CSV


def _check_plain(columns: frozenset[str]) -> None:
    told = ", ".join(sorted(columns))[:200]
    if not columns & set(IMAGE) or not columns & {"action", "label"}:
        raise BadInput(
            f"the file says nothing of images: its columns are {told}; name the image in `sample` "
            "(its id) or `image` (its file's name), and say `action` or `label`"
        )
    if {"split", "state", "decision"} <= columns and "action" not in columns:
        raise BadInput(
            "the file lists the data set, and not what anybody decided; keep the rows that were "
            "decided, and add a column `action`"
        )


def _check_cleanlab(columns: frozenset[str]) -> None:
    if not columns & (RESOLVED | {"action"}):
        raise BadInput(
            f"the file has cleanlab's suggestions ({', '.join(sorted(columns & SUGGESTED))}) and "
            "nothing that a person decided; fill a column `corrected_label`, or `action` (keep, "
            "relabel, exclude), for the rows that somebody looked at, or review them here"
        )


def _check_label_studio(columns: frozenset[str]) -> None:
    if not columns & {"annotations", "completions", "annotation_id", *ANSWER}:
        raise BadInput(
            f"the file is no export of Label Studio: it has {', '.join(sorted(columns))[:200]}; "
            "export as JSON, JSON-MIN or CSV"
        )


def _plain(number: int, row: Mapping[str, Any]) -> Iterator[Said | None]:
    action, event = _text(row, "action"), _text(row, "id")
    ours = event is not None and len(event) == 26 and set(event) <= set(ids.ALPHABET)
    undoes = _text(row, "undoes")
    if action not in (None, *ACTIONS, Kind.UNDO):
        raise BadInput(f"the action {action[:40]!r} is none of {', '.join(ACTIONS)}; correct it")
    if action == Kind.UNDO and not (ours and undoes):
        raise BadInput("an undo needs `id` and `undoes`, as in our own export; leave it out")
    label = _text(row, "label")
    if action is None and label is None:
        yield None
        return
    revision = _whole(row, "revision")
    yield Said(
        row=number,
        image=_image(row, IMAGE),
        action=action,
        label=label,
        before=_text(row, "before"),
        seen=None if ours else revision,
        by=_text(row, "actor"),
        at=_time(row, "at"),
        event=event if ours else None,
        revision=revision if ours else None,
        undoes=undoes,
    )


def _cleanlab(number: int, row: Mapping[str, Any]) -> Iterator[Said | None]:
    action = (_text(row, "action", "cleanlab_action") or "").lower()
    label = _text(row, "corrected_label", "cleanlab_corrected_label")
    if not action and not label:
        yield None  # a suggestion
        return
    if action not in ("", "relabel", *CLEANLAB_ACTIONS):
        raise BadInput(f"the action {action[:40]!r} is none of keep, relabel, exclude; correct it")
    if action == "relabel" and label is None:
        raise BadInput("a relabel needs its `corrected_label`; fill it in")
    decided = CLEANLAB_ACTIONS.get(action)
    image = _image(row, (*IMAGE, "id", "", "unnamed: 0"))
    if image.isdigit():
        raise BadInput(f"{image[:40]!r} is a place in a list, no image; add a column `image`")
    yield Said(
        row=number,
        image=image,
        action=decided,
        label=None if decided else label,
        before=_text(row, "given_label"),
    )


def _label_studio(number: int, row: Mapping[str, Any]) -> Iterator[Said | None]:
    tasks = next((row[key] for key in ("annotations", "completions") if key in row), None)
    if tasks is None:
        answers = [(row, _answer(row))]
    else:
        answers = [(one, _choices(one)) for one in _objects(tasks, "annotations")]
        row = _object(row.get("data"), "data")
    told = False
    for about, choices in answers:
        if not choices or str(about.get("was_cancelled")).lower() in ("true", "1"):
            continue
        told = True
        several = None
        if len(choices) > 1:
            several = f"it was called {', '.join(map(repr, choices))}"[:200]
        yield Said(
            row=number,
            image=_image(row, IMAGE, guess=True),
            label=choices[0],
            by=_annotator(about.get("completed_by", about.get("annotator"))),
            at=_time(about, "updated_at", "created_at"),
            votes=True,
            unclear=several,
        )
    if not told:
        yield None  # not annotated, or skipped


def _choices(annotation: Mapping[str, Any]) -> list[str]:
    """The different labels of an annotation."""
    found = []
    for region in _objects(annotation.get("result"), "result"):
        if region.get("type") == "choices":
            found += _labels(_object(region.get("value"), "value").get("choices"))
    return list(dict.fromkeys(found))


def _answer(row: Mapping[str, Any]) -> list[str]:
    """The same out of a row of JSON_MIN or CSV, under the name of its Choices."""
    names = [name for name in ANSWER if name in row]
    rest = [
        name for name in row if name not in ABOUT and name not in IMAGE and not _shows(row[name])
    ]
    if not names and len(rest) != 1:
        raise BadInput(
            f"which of {', '.join(rest)[:200] or 'no columns'} is the answer is not told; name it "
            "`choice`"
        )
    value = row[names[0] if names else rest[0]]
    if isinstance(value, str) and value[:1] in ("[", "{"):
        with contextlib.suppress(ValueError, RecursionError):  # a label may begin so
            value = json.loads(value)
    return list(dict.fromkeys(_labels(value)))


def _labels(value: Any) -> list[str]:
    if isinstance(value, dict):
        value = value.get("choices")
    listed = value if isinstance(value, list) else [value]
    found = (_text({"choice": one}, "choice") for one in listed)
    return [label for label in found if label is not None]


def _annotator(told: Any) -> str | None:
    if isinstance(told, dict):
        return _text(told, "email", "username", "id")
    return _text({"annotator": told}, "annotator")


def _image(row: Mapping[str, Any], names: tuple[str, ...], *, guess: bool = False) -> str:
    found = _text(row, *names)
    if found is None and guess:  # a task's data has whatever names its owner gave
        shown = [value for value in row.values() if _shows(value)]
        found = _text({"image": shown[0]}, "image") if len(shown) == 1 else None
    if found is None:
        raise BadInput("it names no image; give its sample's id or its file's name")
    return found


def _shows(value: Any) -> bool:
    """Whether this is the name of a picture's file."""
    if not isinstance(value, str):
        return False
    return PurePosixPath(value[-LONGEST:].partition("?")[0]).suffix.lower() in SUFFIXES


def _text(row: Mapping[str, Any], *names: str) -> str | None:
    """What stands under the first of the names that has anything."""
    for name in names:
        value = row.get(name)
        if isinstance(value, bool) or not isinstance(value, str | int | float | None):
            raise BadInput(f"its `{name}` is {_shown(value)}, which is no text; correct it")
        text = "" if value is None else str(value).strip()
        if not text:
            continue
        if len(text) > LONGEST or "\0" in text or any("\ud800" <= one <= "\udfff" for one in text):
            raise BadInput(f"its `{name}` {_shown(text)} is too long, or no text; correct it")
        return text
    return None


def _whole(row: Mapping[str, Any], name: str) -> int | None:
    text = (_text(row, name) or "").removesuffix(".0")
    if text and not (text.isascii() and text.isdigit() and len(text) < 10):
        raise BadInput(f"its `{name}` {text[:40]!r} is no whole number from 0; correct it")
    return int(text) if text else None


def _time(row: Mapping[str, Any], *names: str) -> float | None:
    text = _text(row, *names)
    return None if text is None else times.seconds(text)


def _object(value: Any, name: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise BadInput(f"its `{name}` is {_shown(value)}, which is no JSON object; export it again")
    return value


def _objects(value: Any, name: str) -> list[dict[str, Any]]:
    if not isinstance(value, list):
        raise BadInput(f"its `{name}` is {_shown(value)}, which is no list; export it again")
    return [_object(one, name) for one in value]


def _shown(value: Any) -> str:
    return f"of {len(value)} parts" if isinstance(value, list | dict) else ascii(value)[:40]


_READERS = {Format.CSV: _plain, Format.CLEANLAB: _cleanlab, Format.LABEL_STUDIO: _label_studio}
_CHECKS = {
    Format.CSV: _check_plain,
    Format.CLEANLAB: _check_cleanlab,
    Format.LABEL_STUDIO: _check_label_studio,
}

"""A run's report: one self-contained page, for a screen, a phone and paper."""

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Any

from toploss import curves
from toploss.intervals import Interval, wilson
from training import calibration, evaluation, plots
from training.calibration import Places, Reals
from training.trained import Trained

FOLDER = Path(__file__).parent
TEMPLATE, STYLE = "report.html", "report.css"
NUMBERED = 12  # up to so many classes the confusion matrix shows its numbers
PAIRS = 10  # of classes that are confused most


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One of the top losses."""

    sample: str  # its id
    name: str  # of the file it came in
    label: str
    predicted: str
    confidence: float  # probability of the predicted class
    loss: float  # nats, held out
    thumbnail: bytes  # JPEG or PNG, about 160 pixels

    @property
    def source(self) -> str:
        """The thumbnail as an address that needs no request."""
        kind = "png" if self.thumbnail.startswith(b"\x89PNG") else "jpeg"
        return f"data:image/{kind};base64,{base64.b64encode(self.thumbnail).decode()}"


@dataclass(frozen=True, kw_only=True)
class Contents:
    """What a report tells of."""

    manifest: dict[str, Any]  # with its gate, temperature, novelty and diagnosis
    trained: Trained
    probabilities: Reals  # on test, (n, classes), as the model gives them, before the temperature
    truth: Places  # of the same samples
    pictures: Sequence[Picture]  # highest loss first


@dataclass(frozen=True, kw_only=True)
class Recall:
    """How many of a class were found."""

    label: str
    hits: int
    size: int  # samples of the class
    interval: Interval  # 95 %

    @property
    def share(self) -> float:
        return self.hits / self.size if self.size else 0.0


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A class that was taken for another."""

    label: str
    predicted: str
    count: int
    size: int  # samples of the label


def page(contents: Contents) -> str:
    """The report as HTML; needs nothing beside it. `artifact.without_picture` takes a picture out
    of it again."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": _percent, "number": _number, "code": _code}
    manifest, labels = contents.manifest, contents.manifest["labels"]
    confusion = evaluation.confusion(contents.probabilities, contents.truth)
    findings = {
        verdict: [found for found in manifest["diagnosis"] if found["verdict"] == verdict]
        for verdict in ("found", "clear", "cannot_tell")
    }
    return environment.get_template(TEMPLATE).render(
        style=(FOLDER / STYLE).read_text(encoding="utf-8"),
        manifest=manifest,
        trained_at=datetime.fromtimestamp(manifest["trained_at"], UTC),
        findings=findings,
        splits=_splits(manifest),
        trained=contents.trained,
        history=contents.trained.as_json(),
        finder=contents.trained.finder and vars(contents.trained.finder),
        curves=curves,
        plots=plots,
        confusion=confusion,
        shade=plots.shade,
        numbered=len(labels) <= NUMBERED,
        pairs=confused(labels, confusion),
        recalls=recalls(labels, confusion),
        calibrated=_calibrated(contents),
        pictures=contents.pictures,
        settings=_settings(manifest),
    )


def confused(labels: Sequence[str], confusion: list[list[int]]) -> list[Pair]:
    """The pairs of classes that were confused most often, at most `PAIRS`."""
    pairs = [
        Pair(label=labels[row], predicted=labels[column], count=count, size=sum(line))
        for row, line in enumerate(confusion)
        for column, count in enumerate(line)
        if row != column and count
    ]
    return sorted(pairs, key=lambda pair: (-pair.count, pair.size))[:PAIRS]


def recalls(labels: Sequence[str], confusion: list[list[int]]) -> list[Recall]:
    """Every class's recall, the lowest first."""
    rows = [
        Recall(
            label=label,
            hits=line[place],
            size=sum(line),
            interval=wilson(line[place], sum(line)),
        )
        for place, (label, line) in enumerate(zip(labels, confusion, strict=True))
    ]
    return sorted(rows, key=lambda row: row.share)


def _calibrated(contents: Contents) -> list[dict[str, Any]]:
    """Before the temperature and after it: the table and its error."""
    after = calibration.scaled(contents.probabilities, contents.manifest["temperature"])
    tables = [
        (name, calibration.reliability(probabilities, contents.truth))
        for name, probabilities in (("before", contents.probabilities), ("after", after))
    ]
    return [
        {
            "name": name,
            "table": table,
            "error": calibration.expected_calibration_error(table),
            "lean": calibration.lean(table),
        }
        for name, table in tables
    ]


def _splits(manifest: dict[str, Any]) -> list[dict[str, Any]]:
    """Every split's number of samples and, where it was measured, accuracy with its interval."""
    rows = []
    for split, counts in manifest["snapshot"]["counts"].items():
        size, measured = sum(counts.values()), manifest["metrics"].get(split)
        row: dict[str, Any] = {"name": split, "size": size, "counts": counts, "measured": measured}
        if measured:
            row["hits"] = round(measured["accuracy"] * size)
            row["interval"] = wilson(row["hits"], size)
        rows.append(row)
    return rows


def _settings(manifest: dict[str, Any]) -> dict[str, Any]:
    return {
        "run": manifest["run"],
        "snapshot": manifest["snapshot"]["fingerprint"],
        **manifest["settings"],
        "threads": manifest["threads"],
        "temperature": manifest["temperature"],
        "novelty": manifest["novelty"],
        "parity": manifest["parity"]["difference"],
        "toploss": manifest["code"]["toploss"],
        **manifest["libraries"],
    }


def _percent(share: float) -> str:
    return f"{100 * share:.1f}\u00a0%"  # the sign stays beside its number


def _code(text: str) -> str:
    """Plain text as HTML, with commands between backticks set as such."""
    return re.sub("`([^`]+)`", r"<code>\1</code>", escape(text))


def _number(value: Any) -> str:
    """A setting or a piece of evidence in few characters."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {_number(part)}" for key, part in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_number(part) for part in value)
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "not set" if value is None else str(value)

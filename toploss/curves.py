"""The course of a training as charts, while it runs and in its report.

Rows of a history: stage, epoch within the stage from 1, train_loss, valid_loss, plain_loss (nats),
accuracy, plain_accuracy (0 to 1). What is no finite number is left out.
"""

from collections.abc import Mapping, Sequence
from math import floor, isfinite
from typing import Any

from toploss.charts import Axis, Line, chart, curve, upright

LOG_FROM = 10  # a loss that falls by such a factor is drawn on a logarithmic axis
MARKED = 30  # up to so many points are marked each

Epochs = Sequence[Mapping[str, Any]]


def losses(history: Epochs) -> str:
    """Losses after every epoch: of the training as it goes, of plain training images, of valid."""
    lines = [
        _line("train, as it goes", "noisy", history, "train_loss"),
        _line("train, plain", "plain", history, "plain_loss"),
        _line("valid", "valid", history, "valid_loss"),
    ]
    values = [max(y, 1e-4) for line in lines for _, y in line.points] or [1.0]
    low, high = min(values), max(values)
    log = high > LOG_FROM * low
    y = Axis(name="loss (nats)", low=low if log else 0.0, high=high * 1.05, log=log)
    return _by_epoch(history, y, lines, "Losses after every epoch")


def accuracies(history: Epochs) -> str:
    """Accuracy after every epoch, on plain training images and on valid."""
    lines = [
        _line("train, plain", "plain", history, "plain_accuracy"),
        _line("valid", "valid", history, "accuracy"),
    ]
    values = [y for line in lines for _, y in line.points] or [0.0]
    y = Axis(name="accuracy", low=min(floor(min(values) * 10) / 10, 0.9), high=1.0)
    return _by_epoch(history, y, lines, "Accuracy after every epoch")


def sweep(finder: Mapping[str, Any], rate: float) -> str:
    """The loss over the learning rate, with what was suggested, and the rate that was used; empty
    if it diverged at its first step.

    Args:
        finder: rates, losses (smoothed, nats), suggestions, chosen.
    """
    rates = finder["rates"]
    found = [(r, v) for r, v in zip(rates, finder["losses"], strict=True) if isfinite(v)]
    if not found:
        return ""
    top = 1.5 * found[0][1]  # beyond it, it diverges
    found = [(rate, loss) for rate, loss in found if loss <= top]
    x = Axis(name="learning rate", low=rates[0], high=rates[-1], log=True)
    y = Axis(name="loss (nats, smoothed)", low=0.9 * min(loss for _, loss in found), high=top)
    marks = [upright(x, rate, "hint") for rate in finder["suggestions"].values()]
    how = "chosen" if rate == finder["chosen"] else "given"
    marks.append(upright(x, rate, "chosen", f"{how} {rate:.1e}"))
    inside = curve(x, y, Line(name="loss", kind="valid", points=found), marked=False)
    return chart(x, y, inside + "".join(marks), "Loss over the learning rate")


def _by_epoch(history: Epochs, y: Axis, lines: Sequence[Line], description: str) -> str:
    size = len(history)
    x = Axis(name="epoch", low=0.5, high=size + 0.5, whole=True)
    parts = [curve(x, y, line, marked=size <= MARKED) for line in lines]
    first = sum(epoch["stage"] == "stage-1" for epoch in history)
    if 0 < first < size:
        parts.append(upright(x, first + 0.5, "border", "stage two"))
    return chart(x, y, "".join(parts), description, lines)


def _line(name: str, kind: str, history: Epochs, figure: str) -> Line:
    points = [(float(place), epoch[figure]) for place, epoch in enumerate(history, start=1)]
    return Line(name=name, kind=kind, points=[point for point in points if isfinite(point[1])])

"""The report's drawings: SVG by hand, so that text stays text and colours follow the page's style.

Every drawing is as wide as a phone's page and grows with its column.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, floor, isfinite, log10, sqrt

from training.calibration import Bin
from training.finder import Finder
from training.trained import STAGE_ONE, Epoch, Trained

WIDTH, HEIGHT = 400, 260
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 36, 38  # room around the plotted field
LETTER = 6.0  # width of one at the drawings' size of text, about
LOG_FROM = 10  # a loss that falls by such a factor is drawn on a logarithmic axis
MARKED = 30  # up to so many points are marked each
CELL, LABEL = 10, 8  # of the heat map: side of a cell, size of the labels' text

Point = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Axis:
    """One direction of a plot."""

    name: str
    low: float
    high: float
    log: bool = False
    whole: bool = False  # counts: no ticks between whole numbers

    def place(self, value: float) -> float:
        """Where a value lies, 0 to 1; what is beyond an end is drawn there."""
        low, high, value = (
            (log10(v) for v in (self.low, self.high, max(value, self.low)))
            if self.log
            else (self.low, self.high, value)
        )
        return min(1.0, max(0.0, (value - low) / (high - low)))

    def ticks(self) -> list[float]:
        if self.log:
            powers = range(floor(log10(self.low)), ceil(log10(self.high)) + 1)
            steps = (1,) if len(powers) > 4 else (1, 2, 5)
            found = [step * 10.0**power for power in powers for step in steps]
        else:
            step = _step((self.high - self.low) / 5)
            step = max(step, 1.0) if self.whole else step
            found = [n * step for n in range(ceil(self.low / step), floor(self.high / step) + 1)]
        return [tick for tick in found if self.low <= tick <= self.high * (1 + 1e-9)]


@dataclass(frozen=True, kw_only=True)
class Line:
    """One curve."""

    name: str
    kind: str  # its class in the style sheet
    points: Sequence[Point]


def losses(trained: Trained) -> str:
    """Losses after every epoch: of the training as it goes, of plain training images, of valid."""
    history = trained.history
    lines = [
        _line("train, as it goes", "noisy", [e.train_loss for e in history]),
        _line("train, plain", "plain", [e.plain_loss for e in history]),
        _line("valid", "valid", [e.valid_loss for e in history]),
    ]
    values = [max(y, 1e-4) for line in lines for _, y in line.points] or [1.0]
    low, high = min(values), max(values)
    log = high > LOG_FROM * low
    y = Axis(name="loss (nats)", low=low if log else 0.0, high=high * 1.05, log=log)
    return _by_epoch(history, y, lines, "Losses after every epoch")


def accuracies(trained: Trained) -> str:
    """Accuracy after every epoch, on plain training images and on valid."""
    history = trained.history
    lines = [
        _line("train, plain", "plain", [e.plain_accuracy for e in history]),
        _line("valid", "valid", [e.accuracy for e in history]),
    ]
    low = floor(min(y for line in lines for _, y in line.points) * 10) / 10
    y = Axis(name="accuracy", low=min(low, 0.9), high=1.0)
    return _by_epoch(history, y, lines, "Accuracy after every epoch")


def sweep(finder: Finder, rate: float) -> str:
    """The loss over the learning rate, with what was suggested, and the rate that was used."""
    curve = [(r, v) for r, v in zip(finder.rates, finder.losses, strict=True) if isfinite(v)]
    if not curve:
        return ""  # it diverged at its first step
    top = 1.5 * curve[0][1]  # beyond it, it diverges
    curve = [(rate, loss) for rate, loss in curve if loss <= top]
    x = Axis(name="learning rate", low=finder.rates[0], high=finder.rates[-1], log=True)
    y = Axis(name="loss (nats, smoothed)", low=0.9 * min(loss for _, loss in curve), high=top)
    marks = [_upright(x, rate, "hint") for rate in finder.suggestions.values()]
    how = "chosen" if rate == finder.chosen else "given"
    marks.append(_upright(x, rate, "chosen", f"{how} {rate:.1e}"))
    inside = _curve(x, y, Line(name="loss", kind="valid", points=curve), marked=False)
    return _chart(x, y, inside + "".join(marks), "Loss over the learning rate")


def reliability(table: Sequence[Bin], description: str) -> str:
    """What came true over what was claimed: on the diagonal, a confidence can be believed."""
    x = Axis(name="confidence", low=0.0, high=1.0)
    y = Axis(name="share that is right", low=0.0, high=1.0)
    size = sum(row.count for row in table)
    parts = [_path(x, y, [(0.0, 0.0), (1.0, 1.0)], "diagonal")]
    for row in table:
        low, high = row.interval
        parts.append(_path(x, y, [(row.confidence, low), (row.confidence, high)], "whisker"))
        told = (
            f"{row.count} answers: confidence {row.confidence:.2f}, right {row.accuracy:.2f} "
            f"(95 %: {low:.2f} to {high:.2f})"
        )
        radius = 2.5 + 7 * sqrt(row.count / size)
        parts.append(_dot(x, y, (row.confidence, row.accuracy), radius, "valid", told))
    return _chart(x, y, "".join(parts), description)


def heat(labels: Sequence[str], counts: Sequence[Sequence[int]]) -> str:
    """A confusion matrix of many classes: darker is a larger share of the row; a cell tells its
    number where a pointer rests on it."""
    edge = 6 + LABEL * 0.6 * min(max(len(label) for label in labels), 24)
    side = CELL * len(labels)
    parts = [f'<rect class="field" x="{edge}" y="{edge}" width="{side}" height="{side}"/>']
    for row, (label, line) in enumerate(zip(labels, counts, strict=True)):
        middle, name = edge + CELL * (row + 0.75), escape(_short(label))
        parts.append(f'<text x="{edge - 4}" y="{middle}" text-anchor="end">{name}</text>')
        parts.append(f'<text transform="translate({middle},{edge - 4}) rotate(-90)">{name}</text>')
        for column, count in enumerate(line):
            if count:
                kind = "hit" if row == column else "miss"
                told = f"{label} → {labels[column]}: {count} of {sum(line)}"
                parts.append(
                    f'<rect class="{kind}" x="{edge + CELL * column}" y="{edge + CELL * row}" '
                    f'width="{CELL}" height="{CELL}" fill-opacity="{shade(count, sum(line))}">'
                    f"<title>{escape(told)}</title></rect>"
                )
    whole = edge + side + 2
    return (
        f'<svg class="heat" role="img" aria-label="Confusion matrix of {len(labels)} classes" '
        f'width="{whole:g}" height="{whole:g}" viewBox="0 0 {whole:g} {whole:g}">'
        f"{''.join(parts)}</svg>"
    )


def shade(count: int, of: int) -> float:
    """How dark a cell of the confusion matrix is, 0 to 1; a single miss can be seen."""
    return round(0.12 + 0.48 * count / of, 2) if count else 0.0


def _by_epoch(history: Sequence[Epoch], y: Axis, lines: Sequence[Line], description: str) -> str:
    size = len(history)
    x = Axis(name="epoch", low=0.5, high=size + 0.5, whole=True)
    parts = [_curve(x, y, line, marked=size <= MARKED) for line in lines]
    first = sum(epoch.stage == STAGE_ONE for epoch in history)
    if 0 < first < size:
        parts.append(_upright(x, first + 0.5, "border", "stage two"))
    return _chart(x, y, "".join(parts), description, lines)


def _line(name: str, kind: str, values: Sequence[float]) -> Line:
    points = [(float(place), value) for place, value in enumerate(values, start=1)]
    return Line(name=name, kind=kind, points=[point for point in points if isfinite(point[1])])


def _chart(x: Axis, y: Axis, inside: str, description: str, lines: Sequence[Line] = ()) -> str:
    """The frame: grid, ticks, names, legend."""
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    parts = []
    for tick in y.ticks():
        at = round(_down(y, tick), 1)
        parts.append(f'<path class="grid" d="M{LEFT} {at}H{right}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{at + 4}" text-anchor="end">{tick:g}</text>')
    for tick in x.ticks():
        at = round(_across(x, tick), 1)
        parts.append(f'<path class="tick" d="M{at} {bottom}v4"/>')
        parts.append(f'<text x="{at}" y="{bottom + 16}" text-anchor="middle">{_told(tick)}</text>')
    parts.append(f'<path class="axis" d="M{LEFT} {bottom}H{right}"/>')
    parts.append(f'<text x="{right}" y="{HEIGHT - 5}" text-anchor="end">{escape(x.name)}</text>')
    legend, start = "", float(LEFT)
    for line in lines:
        legend += f'<path class="curve {line.kind}" d="M{start:.0f} 10h18"/>'
        legend += f'<text x="{start + 23:.0f}" y="14">{escape(line.name)}</text>'
        start += 40 + LETTER * len(line.name)
    if lines:
        middle = (TOP + bottom) / 2
        turned = f'transform="translate(11,{middle}) rotate(-90)" text-anchor="middle"'
        legend += f"<text {turned}>{escape(y.name)}</text>"
    else:
        legend = f'<text x="{LEFT}" y="14">{escape(y.name)}</text>'
    return (
        f'<svg class="plot" role="img" aria-label="{escape(description)}" '
        f'viewBox="0 0 {WIDTH} {HEIGHT}">{"".join(parts)}{inside}{legend}</svg>'
    )


def _curve(x: Axis, y: Axis, line: Line, *, marked: bool) -> str:
    marks = [_dot(x, y, point, 2.6, line.kind) for point in line.points] if marked else []
    return _path(x, y, line.points, f"curve {line.kind}") + "".join(marks)


def _path(x: Axis, y: Axis, points: Sequence[Point], kind: str) -> str:
    steps = " ".join(f"{_across(x, a):.1f} {_down(y, b):.1f}" for a, b in points)
    return f'<path class="{kind}" d="M{steps}"/>'


def _dot(x: Axis, y: Axis, point: Point, radius: float, kind: str, told: str = "") -> str:
    title = f"<title>{escape(told)}</title>" if told else ""
    return (
        f'<circle class="dot {kind}" cx="{_across(x, point[0]):.1f}" '
        f'cy="{_down(y, point[1]):.1f}" r="{radius:.1f}">{title}</circle>'
    )


def _upright(x: Axis, value: float, kind: str, name: str = "") -> str:
    at = _across(x, value)
    anchor = "start" if at + LETTER * len(name) < WIDTH - RIGHT else "end"
    text = f'<text x="{at:.1f}" y="{TOP - 4}" text-anchor="{anchor}">{escape(name)}</text>'
    return f'<path class="{kind}" d="M{at:.1f} {TOP}V{HEIGHT - BOTTOM}"/>{text if name else ""}'


def _across(x: Axis, value: float) -> float:
    return LEFT + x.place(value) * (WIDTH - LEFT - RIGHT)


def _down(y: Axis, value: float) -> float:
    return TOP + (1 - y.place(value)) * (HEIGHT - TOP - BOTTOM)


def _step(least: float) -> float:
    """The next of 1, 2, 5, 10, … at any power of ten."""
    power = 10.0 ** floor(log10(least))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= least * (1 - 1e-9))


def _told(tick: float) -> str:
    return f"{tick:g}" if 1e-3 <= tick < 1e4 or tick == 0 else f"{tick:.0e}".replace("e-0", "e-")


def _short(label: str) -> str:
    return label if len(label) <= 24 else f"{label[:23]}…"

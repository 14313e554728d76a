"""Charts as SVG, written by hand, so that text stays text and colours follow the page's style.

A chart is as wide as a phone's page and grows with its column. What a line is, is told by its class
in the style sheet: a colour, and dashes for who sees none.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, floor, log10

WIDTH, HEIGHT = 400, 260
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 36, 38  # room around the plotted field
LETTER = 6.0  # width of one at the drawings' size of text, about

Point = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Axis:
    """One direction of a chart."""

    name: str
    low: float
    high: float
    log: bool = False
    whole: bool = False  # counts: no ticks between whole numbers
    named: tuple[tuple[float, str], ...] = ()  # the ticks, where they are not numbers

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

    def marks(self) -> list[tuple[float, str]]:
        """The ticks, and what is written at each."""
        return list(self.named) or [(tick, _told(tick)) for tick in self.ticks()]


@dataclass(frozen=True, kw_only=True)
class Line:
    """One curve."""

    name: str
    kind: str  # its class in the style sheet
    points: Sequence[Point]


def chart(x: Axis, y: Axis, inside: str, description: str, lines: Sequence[Line] = ()) -> str:
    """The frame around what is drawn: grid, ticks, names, and the legend of the lines."""
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    parts = []
    for tick, text in y.marks():
        at = round(_down(y, tick), 1)
        parts.append(f'<path class="grid" d="M{LEFT} {at}H{right}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{at + 4}" text-anchor="end">{escape(text)}</text>')
    for tick, text in x.marks():
        at = round(across(x, tick), 1)
        parts.append(f'<path class="tick" d="M{at} {bottom}v4"/>')
        parts.append(f'<text x="{at}" y="{bottom + 16}" text-anchor="middle">{escape(text)}</text>')
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


def curve(x: Axis, y: Axis, line: Line, *, marked: bool) -> str:
    """A line through its points, with a dot on each if they are `marked`."""
    marks = [dot(x, y, point, 2.6, line.kind) for point in line.points] if marked else []
    return path(x, y, line.points, f"curve {line.kind}") + "".join(marks)


def path(x: Axis, y: Axis, points: Sequence[Point], kind: str) -> str:
    """A line through points; nothing where there are none. `kind`: its class in the style sheet."""
    if not points:
        return ""
    steps = " ".join(f"{across(x, a):.1f} {_down(y, b):.1f}" for a, b in points)
    return f'<path class="{kind}" d="M{steps}"/>'


def dot(x: Axis, y: Axis, point: Point, radius: float, kind: str, told: str = "") -> str:
    """A dot; `told` is shown where a pointer rests on it."""
    title = f"<title>{escape(told)}</title>" if told else ""
    return (
        f'<circle class="dot {kind}" cx="{across(x, point[0]):.1f}" '
        f'cy="{_down(y, point[1]):.1f}" r="{radius:.1f}">{title}</circle>'
    )


def upright(x: Axis, value: float, kind: str, name: str = "") -> str:
    """A line across the field, with its name above."""
    at = across(x, value)
    anchor = "start" if at + LETTER * len(name) < WIDTH - RIGHT else "end"
    text = f'<text x="{at:.1f}" y="{TOP - 4}" text-anchor="{anchor}">{escape(name)}</text>'
    return f'<path class="{kind}" d="M{at:.1f} {TOP}V{HEIGHT - BOTTOM}"/>{text if name else ""}'


def across(x: Axis, value: float) -> float:
    """Where a value lies, in the drawing's units from its left edge."""
    return LEFT + x.place(value) * (WIDTH - LEFT - RIGHT)


def _down(y: Axis, value: float) -> float:
    return TOP + (1 - y.place(value)) * (HEIGHT - TOP - BOTTOM)


def _step(least: float) -> float:
    """The next of 1, 2, 5, 10, … at any power of ten."""
    power = 10.0 ** floor(log10(least))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= least * (1 - 1e-9))


def _told(tick: float) -> str:
    return f"{tick:g}" if 1e-3 <= tick < 1e4 or tick == 0 else f"{tick:.0e}".replace("e-0", "e-")

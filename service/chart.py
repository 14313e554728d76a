"""Drift as a picture: how far it has gone beside its thresholds, and where it lies."""

from collections.abc import Iterator
from html import escape

from toploss.drift import Drift, Kind, Shift

WIDTH, LEFT, RIGHT = 640, 150, 116  # pixels: of all, of the names, of the numbers
BAR = WIDTH - LEFT - RIGHT
ROW = 22
MOST_CLASSES = 12  # with a row of their own, the largest shift first
LONGEST = 20  # characters of a class's name; wide ones are cut off

STYLE = """
svg { color: #1c1e21; font: 13px system-ui, sans-serif; }
.ground { fill: #ffffff; }
text { fill: currentColor; }
.head { font-weight: 600; }
.name { clip-path: url(#names); }
.seen { fill: currentColor; }
.expected { fill: none; stroke: currentColor; stroke-width: 1.5; }
.mark { stroke: currentColor; stroke-width: 2; }
.watch { stroke-dasharray: 3 3; }
@media (prefers-color-scheme: dark) {
  svg { color: #e9eaec; }
  .ground { fill: #1d2024; }
}
"""


def draw(found: Drift) -> str:
    """An SVG that says without colours what it shows, and in words as well."""
    parts, y = [], 24.0
    for panel in (_shifts(found), _classes(found), _trait(found)):
        for made, height in panel:
            parts.append(f'<g transform="translate(0 {y:g})">{made}</g>')
            y += height
    title = f"Drift of {found.model} in {found.hours} hours: {found.state}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y:g}" width="{WIDTH}" '
        f'height="{y:g}" role="img" aria-labelledby="title description">'
        f'<title id="title">{escape(title)}</title>'
        f'<desc id="description">{escape(_described(found))}</desc><style>{STYLE}</style>'
        f'<rect class="ground" width="{WIDTH}" height="{y:g}"/>'
        f'<clipPath id="names"><rect y="-{ROW}" width="{LEFT - 4}" height="{2 * ROW}"/></clipPath>'
        f"{''.join(parts)}</svg>"
    )


Row = tuple[str, float]  # what is drawn, and how high it is


def _shifts(found: Drift) -> Iterator[Row]:
    """Each kind's index, with its thresholds as marks across."""
    yield _text(8, f"{found.state}: {_counted(found)}", "head"), ROW
    marks = [shift.alarm for shift in found.kinds.values() if shift.alarm is not None]
    if marks:
        yield _text(8, "population stability index; dashed: worth a look; solid: an alarm"), ROW + 4
    for kind, shift in found.kinds.items():
        yield _name(kind.value) + _shift(shift, 2 * max(marks, default=1.0)), ROW
    yield "", ROW / 2


def _shift(shift: Shift, most: float) -> str:
    if shift.statistic is None or shift.watch is None or shift.alarm is None:
        return _text(LEFT, shift.state.value)
    marks = ((shift.watch, "mark watch"), (shift.alarm, "mark"))
    return (
        _bar(shift.statistic / most, "seen", -9, 8)
        + "".join(
            f'<line class="{name}" x1="{LEFT + BAR * at / most:.1f}" y1="-14" '
            f'x2="{LEFT + BAR * at / most:.1f}" y2="5"/>'
            for at, name in marks
        )
        + _text(WIDTH - RIGHT + 6, f"{shift.statistic:.2f} {shift.state}")
    )


def _classes(found: Drift) -> Iterator[Row]:
    items = found.kinds[Kind.CLASSES].items
    if not items or not found.answers:
        return
    yield _legend("Predicted classes"), ROW + 4
    most = max(max(item["expected"], item["seen"]) for item in items)
    for item in items[:MOST_CLASSES]:
        numbers = f"{item['seen']:.1%} / {item['expected']:.1%}"
        yield _name(item["label"]) + _pair(item["expected"], item["seen"], most, numbers), ROW
    if len(items) > MOST_CLASSES:
        yield _text(8, f"and {len(items) - MOST_CLASSES} classes that have shifted less"), ROW
    yield "", ROW / 2


def _trait(found: Drift) -> Iterator[Row]:
    """The bins of the trait that has shifted most."""
    items = found.kinds[Kind.FEATURES].items
    if not items or not found.answers:
        return
    item = items[0]
    yield _legend(f"Images by {item['trait']}, from low to high"), ROW + 4
    most = max(*item["expected"], *item["seen"])
    for number, (expected, seen) in enumerate(zip(item["expected"], item["seen"], strict=True), 1):
        if expected or seen:
            numbers = f"{seen:.1%} / {expected:.1%}"
            yield _name(f"bin {number}") + _pair(expected, seen, most, numbers), ROW
    yield "", ROW / 2


def _legend(title: str) -> str:
    y = 'y="-9" width="12" height="8"'
    return (
        _text(8, title, "head")
        + f'<rect class="seen" x="{WIDTH - 196}" {y}/>'
        + _text(WIDTH - 178, "seen")
        + f'<rect class="expected" x="{WIDTH - 130}" {y}/>'
        + _text(WIDTH - 112, "expected")
    )


def _pair(expected: float, seen: float, most: float, numbers: str) -> str:
    """Seen, filled, above expected, in outline."""
    return (
        _bar(seen / most, "seen", -11, 7)
        + _bar(expected / most, "expected", -3, 6)
        + _text(WIDTH - RIGHT + 6, numbers)
    )


def _bar(share: float, name: str, y: float, height: float) -> str:
    width = BAR * min(max(share, 0.0), 1.0)
    return f'<rect class="{name}" x="{LEFT}" y="{y:g}" width="{width:.1f}" height="{height:g}"/>'


def _name(text: str) -> str:
    return _text(8, text if len(text) <= LONGEST else text[: LONGEST - 1] + "…", "name")


def _text(x: float, text: str, name: str = "") -> str:
    return f'<text class="{name}" x="{x:g}">{escape(text)}</text>'


def _described(found: Drift) -> str:
    whys = [shift.why for shift in found.kinds.values()]
    return ". ".join(dict.fromkeys([_counted(found), *whys])) + "."


def _counted(found: Drift) -> str:
    return f"{found.answers} answers, against {found.reference} held-out images"

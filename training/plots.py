"""The report's drawings beside the curves: how far a confidence can be believed, and what is taken
for what."""

from collections.abc import Sequence
from html import escape
from math import sqrt

from toploss.charts import Axis, chart, dot, path
from training.calibration import Bin

CELL, LABEL = 10, 8  # of the heat map: side of a cell, size of the labels' text


def reliability(table: Sequence[Bin], description: str) -> str:
    """What came true over what was claimed: on the diagonal, a confidence can be believed."""
    x = Axis(name="confidence", low=0.0, high=1.0)
    y = Axis(name="share that is right", low=0.0, high=1.0)
    size = sum(row.count for row in table)
    parts = [path(x, y, [(0.0, 0.0), (1.0, 1.0)], "diagonal")]
    for row in table:
        low, high = row.interval
        parts.append(path(x, y, [(row.confidence, low), (row.confidence, high)], "whisker"))
        told = (
            f"{row.count} answers: confidence {row.confidence:.2f}, right {row.accuracy:.2f} "
            f"(95 %: {low:.2f} to {high:.2f})"
        )
        radius = 2.5 + 7 * sqrt(row.count / size)
        parts.append(dot(x, y, (row.confidence, row.accuracy), radius, "valid", told))
    return chart(x, y, "".join(parts), description)


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


def _short(label: str) -> str:
    return label if len(label) <= 24 else f"{label[:23]}…"

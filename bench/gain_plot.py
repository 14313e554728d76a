"""The drawing of what a review gains: errors found, and accuracy, by how much has been reviewed.

White behind it, so that it can be read on a dark page; every line has its own mark and its name at
its end, so that nothing hangs on colours.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import matplotlib

matplotlib.use("Agg")  # draws into files; needs no screen

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK, GREY = "#222222", "#6b6b6b"
STYLE: Any = {
    "axes.edgecolor": GREY,
    "font.sans-serif": ["DejaVu Sans", "Verdana", "sans-serif"],
    "font.size": 9,
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "gain",
    "text.color": INK,
}
ROOM = 0.075  # between two names at the right, as a share of the height
PART = 0.005  # of the pool, between two points of a curve


@dataclass(frozen=True, kw_only=True)
class Look:
    """Of the line of an order."""

    name: str
    colour: str
    mark: str
    dashes: str

    def line(self) -> dict[str, Any]:
        return {
            "color": self.colour,
            "marker": self.mark,
            "markersize": 5,
            "linestyle": self.dashes,
        }


LOOKS = {  # Okabe and Ito's colours, darkened for text on white
    "list": Look(name="the list", colour="#00527f", mark="o", dashes="-"),
    "random": Look(name="random order", colour="#8a5a00", mark="s", dashes="--"),
    "fastai": Look(name="fastai's top losses", colour="#a03a70", mark="^", dashes="-."),
}


def draw(figures: dict[str, Any], file: Path) -> None:
    """Into a file, .svg or .png: a row for each data set, means over its seeds."""
    sets = list(dict.fromkeys(case["data"] for case in figures["cases"]))
    with rc_context(STYLE):
        drawn = Figure(figsize=(9.2, 3.2 * len(sets)), facecolor="white", layout="constrained")
        fields = drawn.subplots(len(sets), 2, squeeze=False)
        for (left, right), data in zip(fields, sets, strict=True):
            cases = [case for case in figures["cases"] if case["data"] == data]
            many = f"{len(cases)} seeds" if len(cases) > 1 else "one seed"
            left.set_title(f"{data}: wrong labels found ({many})", loc="left")
            right.set_title(f"{data}: accuracy on test, trained again", loc="left")
            _found(left, cases)
            _accuracy(right, cases)
        # Without a date: equal figures, equal files.
        told = {"Date": None} if file.suffix == ".svg" else None
        drawn.savefig(file, dpi=150, metadata=told)


def _found(axes: Axes, cases: Sequence[dict[str, Any]]) -> None:
    ends: list[tuple[Look, float, float]] = []
    for order, look in LOOKS.items():
        each = [(case, case["orders"][order]) for case in cases]
        last = min(one["answers"] / case["pool"] for case, one in each)
        xs = [number * PART for number in range(int(last / PART + 1e-9) + 1)]
        if last - xs[-1] > 1e-3:
            xs.append(last)
        ys = [fmean(_share_found(case, one, x) for case, one in each) for x in xs]
        marked = [*range(0, len(xs) - 1, 10), len(xs) - 1]
        axes.plot(_percent(xs), _percent(ys), **look.line(), markevery=marked)
        ends.append((look, 100 * xs[-1], 100 * ys[-1]))
    n = 100 * fmean(case["planted"] / case["pool"] for case in cases)
    axes.axvline(n, color=GREY, linewidth=1, linestyle=":")
    axes.text(n + 0.3, 45, "as many answers\nas wrong labels", color=GREY)
    axes.set_ylim(0, 104)
    _finish(axes, ends, "of the wrong labels, %")


def _accuracy(axes: Axes, cases: Sequence[dict[str, Any]]) -> None:
    ends: list[tuple[Look, float, float]] = []
    values: list[float] = []
    for order, look in LOOKS.items():
        stops = [
            [
                (0.0, case["accuracy_before"]),
                *(
                    (stop["reviewed"] / case["pool"], stop["accuracy"])
                    for stop in case["orders"][order]["stops"]
                ),
            ]
            for case in cases
        ]
        points = list(zip(*stops, strict=True))
        xs = [fmean(x for x, _ in point) for point in points]
        each = [[y for _, y in point] for point in points]
        ys = [fmean(some) for some in each]
        axes.plot(_percent(xs), _percent(ys), **look.line())
        small = look.line() | {"markersize": 2.5, "linestyle": "", "alpha": 0.6}
        for x, some in zip(xs, each, strict=True):
            axes.plot([100 * x] * len(some), _percent(some), **small)
        values += [y for some in each for y in some]
        ends.append((look, 100 * xs[-1], 100 * ys[-1]))
    clean = fmean(case["accuracy_clean"] for case in cases)
    axes.plot([0, 20.5], [100 * clean] * 2, color=GREY, linewidth=1, linestyle="--")
    # Of one accuracy, by the number of images alone: what a difference has to be held against.
    error = 100 * (clean * (1 - clean) / cases[0]["test"]) ** 0.5
    middle = 100 * fmean(case["accuracy_before"] for case in cases)
    axes.errorbar([31.5], [middle], yerr=[error], color=GREY, capsize=3, linewidth=1)
    axes.text(32.4, middle, "± one standard error", color=GREY, va="center", rotation=90)
    low = min(100 * min([*values, clean]), middle - error)
    high = max(100 * max([*values, clean]), middle + error)
    room = (high - low) / 8
    axes.set_ylim(low - room, high + 1.6 * room)
    axes.text(0, 100 * clean + room / 6, "no wrong labels at all", color=GREY, va="bottom")
    _finish(axes, ends, "accuracy, %")


def _finish(axes: Axes, ends: Sequence[tuple[Look, float, float]], name: str) -> None:
    """Names at the ends of the lines, far enough from one another to be read."""
    low, high = axes.get_ylim()
    axes.set_xlim(-0.5, 34)
    axes.set_xticks([0, 5, 10, 15, 20])
    axes.set_xlabel("reviewed, % of train and valid")
    axes.set_ylabel(name)
    axes.grid(axis="y", color="#e4e4e4", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    at = low
    for look, x, y in sorted(ends, key=lambda end: end[2]):
        at = max(y, at)
        place = (max(x for _, x, _ in ends) + 0.7, at)
        line = {"arrowstyle": "-", "color": look.colour, "linewidth": 0.7}
        axes.annotate(look.name, (x, y), place, color=look.colour, va="center", arrowprops=line)
        at += ROOM * (high - low)


def _share_found(case: dict[str, Any], one: dict[str, Any], reviewed: float) -> float:
    answers = round(reviewed * case["pool"])
    found = sum(number <= answers for number in one["found_by"])
    return float(found / case["planted"])


def _percent(shares: Sequence[float]) -> list[float]:
    return [100 * share for share in shares]

"""What every measurement shares: its options, the machine, and how figures are told."""

import argparse
import json
import platform
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from toploss.settings import available_cores

LIBRARIES = ("torch", "torchvision", "fastai", "bentoml", "onnxruntime")


def options(name: str, quick_means: str) -> argparse.ArgumentParser:
    """What every `python -m bench.NAME` takes; a measurement adds what is its own.

    Args:
        quick_means: what `--quick` leaves out.
    """
    parser = argparse.ArgumentParser(prog=f"python -m bench.{name}")
    rough = f"rough: {quick_means}".replace("%", "%%")
    parser.add_argument("--quick", action="store_true", help=rough)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    return parser


def main(
    parser: argparse.ArgumentParser, measure: Callable[[argparse.Namespace], dict[str, Any]]
) -> None:
    """Run a measurement, print its figures, write them as JSON.

    Args:
        parser: of `options`.
        measure: gets what was asked for; returns the figures by name.
    """
    args = parser.parse_args()
    figures = {"quick": args.quick, "machine": machine(), **measure(args)}
    print(title(parser, args))
    for key, value in figures.items():
        if key != "machine":
            print(f"  {key:32} {_told(value)}")
    write(args, figures)


def title(parser: argparse.ArgumentParser, args: argparse.Namespace) -> str:
    """The line above printed figures."""
    name = parser.prog.removeprefix("python -m ")
    return f"\n{name}" + (" --quick: rough figures" if args.quick else "")


def write(args: argparse.Namespace, figures: dict[str, Any]) -> None:
    """The figures as JSON, where that was asked for."""
    if args.json:
        args.json.write_text(json.dumps(figures, indent=2) + "\n")


def machine() -> dict[str, Any]:
    """Where the figures come from."""
    return {
        "cores": available_cores(),
        "processor": platform.processor() or platform.machine(),
        "python": platform.python_version(),
        **{library: version(library) for library in LIBRARIES},
    }


def share(values: list[float], percent: float) -> float:
    """The percentile of some values; nearest rank."""
    ranked = sorted(values)
    return ranked[min(len(ranked) - 1, round(percent / 100 * (len(ranked) - 1)))]


def _told(value: Any) -> str:
    if isinstance(value, list) and value and all(isinstance(row, dict) for row in value):
        return "".join(f"\n    {line}" for line in _table(value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _table(rows: list[dict[str, Any]]) -> list[str]:
    """A line of names, and one for each row."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = [names, *([_told(row.get(name, "")) for name in names] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return ["  ".join(map(str.rjust, line, widths)) for line in lines]

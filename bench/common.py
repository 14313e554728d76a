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


def main(name: str, measure: Callable[[bool], dict[str, Any]], quick_means: str) -> None:
    """Run a measurement as `python -m bench.NAME`, print its figures, write them as JSON.

    Args:
        measure: gets whether `--quick` was asked for; returns the figures by name.
        quick_means: what `--quick` leaves out.
    """
    parser = argparse.ArgumentParser(prog=f"python -m bench.{name}")
    parser.add_argument("--quick", action="store_true", help=f"rough: {quick_means}")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    args = parser.parse_args()
    figures = {"quick": args.quick, "machine": machine(), **measure(args.quick)}
    print(f"\nbench.{name}" + (" --quick: rough figures" if args.quick else ""))
    for key, value in figures.items():
        if key != "machine":
            print(f"  {key:32} {_told(value)}")
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
    return f"{value:.4g}" if isinstance(value, float) else str(value)

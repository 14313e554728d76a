"""The limit: decode and forward in a bare loop, by the same engine. A process of its own.

Asked on standard input for seconds, it answers with images a second, of each way of using the
cores; and, asked for `one`, with the milliseconds of one image at a time.
"""

import argparse
import json
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from toploss.artifact import open_folder
from toploss.loading import load
from toploss.preprocess import Limits, decode
from toploss.settings import available_cores


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("version", type=Path)
    parser.add_argument("photographs", type=Path, nargs="+")
    args = parser.parse_args()
    loop = Loop(args.version, [path.read_bytes() for path in args.photographs])
    for line in sys.stdin:
        what, seconds = line.split()
        print(json.dumps(loop.answer(what, float(seconds))), flush=True)


BATCHES = (1, 4, 8)


class Loop:
    def __init__(self, version: Path, pictures: list[bytes]) -> None:
        loaded = open_folder(version)
        self._engine = load(loaded, device="cpu", threads=available_cores())
        self._size, self._pictures = loaded.preprocessing.size, pictures
        for batch in BATCHES:
            for alone in (True, False):
                self._some(batch, 0, alone)

    def answer(self, what: str, seconds: float) -> dict[str, float]:
        if what == "one":
            return {"ms": 1000 / self._one_thread(seconds, 1, alone=True)}
        each = seconds / (1 + len(BATCHES))
        return {
            "one by one, all cores": self._one_thread(each, 1, alone=True),
            **{
                f"a core each, {batch} at a time": self._a_core_each(each, batch)
                for batch in BATCHES
            },
        }

    def _one_thread(self, seconds: float, batch: int, *, alone: bool) -> float:
        done, began = 0, time.monotonic()
        while time.monotonic() < began + seconds:
            self._some(batch, done, alone)
            done += batch
        return done / (time.monotonic() - began)

    def _a_core_each(self, seconds: float, batch: int) -> float:
        rates: list[float] = []

        def work() -> None:
            rates.append(self._one_thread(seconds, batch, alone=False))

        _together([work] * self._engine.lanes)
        return sum(rates)

    def _some(self, batch: int, start: int, alone: bool) -> None:
        """Decode and compute, as the service does it for one batch."""
        decoded = [
            decode(self._pictures[(start + n) % len(self._pictures)], self._size, Limits())
            for n in range(batch)
        ]
        self._engine.outputs(np.stack(decoded), alone=alone)


def _together(works: list[Callable[[], None]]) -> None:
    threads = [threading.Thread(target=work) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()

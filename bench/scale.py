"""What grows with the number of samples: to take images in, to freeze a snapshot and read it again,
to find one sample in it, to export the data set, to settle a first verdict.

Each is measured in a process of its own, whose peak of memory is that measurement's. The samples
are rows without images, but for those that are imported. `--database-url` measures on PostgreSQL.
"""

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from sqlalchemy import select

from bench.common import main, options
from bench.pool import grow, make_version
from toploss import members, schema, settling, snapshots
from toploss.database import one_at_a_time
from toploss.errors import Broken
from toploss.home import Home
from toploss.settings import read_settings

STEPS, FEW = (100_000, 300_000, 1_000_000), (10_000, 30_000, 100_000)
IMPORTED = 500  # small images, at each size
LOOKED_UP = 200
IMAGE = (96, 72)
WAIT_S = 0.05  # between two looks at whether a writer comes through


def measure(quick: bool, url: str | None) -> dict[str, Any]:
    rows = []
    with tempfile.TemporaryDirectory(prefix="toploss-bench-") as scratch:
        settings = {"home": str(Path(scratch) / "home")} | ({"database_url": url} if url else {})
        home = Home.open(read_settings(**settings))
        make_version(home)
        chance = np.random.default_rng(0)
        imports = [_imported(home, Path(scratch) / "first", chance)]
        for number in FEW if quick else STEPS:
            grow(home, chance, number)
            row: dict[str, Any] = {"samples": number}
            row["import_per_s"] = _imported(home, Path(scratch) / str(number), chance)
            imports.append(row["import_per_s"])
            for part in PARTS:
                row |= _apart(part, settings)
            print(json.dumps(row), flush=True)
            rows.append(row)
        home.db.close()
    first, last = rows[0], rows[-1]
    times = last["samples"] / first["samples"]
    return {
        "samples": last["samples"],
        "import_per_s": imports[-1],
        "import_last_over_first": round(imports[-1] / imports[0], 3),
        "snapshot_s": last["freeze_s"],
        "peak_mb": last["freeze_peak_mb"],
        # 1: it grows as the number of samples does.
        "snapshot_s_over_proportion": round(last["freeze_s"] / first["freeze_s"] / times, 2),
        "peak_mb_over_proportion": round(last["freeze_mb"] / first["freeze_mb"] / times, 2),
        "rows": rows,
    }


def _imported(home: Home, folder: Path, chance: np.random.Generator) -> int:
    """Images taken in a second, decoded and kept."""
    from training import from_folder

    for number in range(IMPORTED):
        target = folder / f"class-{number % 10}" / f"{number}.jpg"
        target.parent.mkdir(parents=True, exist_ok=True)
        noise = chance.integers(0, 256, (IMAGE[1] // 12, IMAGE[0] // 12, 3), np.uint8)
        out = BytesIO()
        Image.fromarray(noise).resize(IMAGE, Image.Resampling.BICUBIC).save(out, "JPEG")
        target.write_bytes(out.getvalue())
    began = time.monotonic()
    summary = from_folder(folder, home=home)
    assert summary.added == IMPORTED, summary
    return round(IMPORTED / (time.monotonic() - began))


def _apart(part: str, settings: dict[str, str]) -> dict[str, Any]:
    """A part's figures, from a process of its own."""
    command = [sys.executable, "-m", "bench.scale", "--part", part, json.dumps(settings)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


def _freeze(home: Home) -> dict[str, Any]:
    return _timed("freeze", lambda: snapshots.freeze(home))


def _load(home: Home) -> dict[str, Any]:
    fingerprint = _fingerprint(home)
    return _timed("load", lambda: snapshots.load(home, fingerprint))


def _find(home: Home) -> dict[str, Any]:
    """Whether a sample is in the snapshot: half of those asked for are."""
    path = f"snapshots/{_fingerprint(home)}.csv"
    with home.db.read() as connection:
        query = select(schema.samples.c.id).order_by(schema.samples.c.id.desc()).limit(LOOKED_UP)
        ids = list(connection.execute(query).scalars())
    chance = np.random.default_rng(1)
    ids = ids[::2] + [chance.bytes(32).hex() for _ in ids[::2]]
    found = _timed("find", lambda: [members.find(home, path, one) for one in ids])
    return {"find_ms": round(found["find_s"] / len(ids) * 1000, 2)}


def _export(home: Home) -> dict[str, Any]:
    return _timed("export", lambda: sum(map(len, snapshots.export(home))))


def _settle(home: Home) -> dict[str, Any]:
    """The first verdict: every sample counts as settled from then on. How long does somebody who
    decides meanwhile wait at most?"""
    with home.db.write() as connection:
        connection.execute(schema.samples.update().values(settled_class_id=None, changed=True))
    fingerprint = _fingerprint(home)
    stopped, longest = threading.Event(), [0.0]

    def watch() -> None:
        while not stopped.wait(WAIT_S):
            began = time.monotonic()
            with contextlib.suppress(Broken), home.db.write() as connection:  # it gave up waiting
                one_at_a_time(connection)
            longest[0] = max(longest[0], time.monotonic() - began)

    def settle() -> None:
        unsettled = settling.unsettled(home, fingerprint)
        with home.db.write(long=True) as connection:
            one_at_a_time(connection)
            settling.begin(connection, unsettled)
        settling.finish(home)

    watcher = threading.Thread(target=watch)
    watcher.start()
    figures = _timed("settle", settle)
    stopped.set()
    watcher.join()
    return figures | {"settle_blocks_s": round(longest[0], 2)}


def _timed(name: str, work: Callable[[], object]) -> dict[str, Any]:
    """Seconds, the peak of this process, and what of it the work took."""
    before, began = _peak_mb(), time.monotonic()
    work()
    took = time.monotonic() - began
    return {
        f"{name}_s": round(took, 2),
        f"{name}_mb": round(_peak_mb() - before, 1),
        f"{name}_peak_mb": round(_peak_mb()),
    }


def _peak_mb() -> float:
    """Of this program alone: what `getrusage` has begins with its parent's."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def _fingerprint(home: Home) -> str:
    newest = schema.snapshots.c.at.desc()
    with home.db.read() as connection:
        query = select(schema.snapshots.c.fingerprint).order_by(newest).limit(1)
        return str(connection.execute(query).scalar_one())


PARTS = {
    "freeze": _freeze,
    "load": _load,
    "find": _find,
    "export": _export,
    "settle": _settle,
}


if __name__ == "__main__":
    few, steps = (", ".join(f"{n:,}" for n in numbers) for numbers in (FEW, STEPS))
    parser = options("scale", f"{few} samples in place of {steps}")
    parser.add_argument("--database-url", help="else SQLite")
    parser.add_argument("--part", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.part:
        name, given = args.part
        print(json.dumps(PARTS[name](Home.open(read_settings(**json.loads(given))))))
    else:
        main(parser, lambda args: measure(args.quick, args.database_url))

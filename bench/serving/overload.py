"""Five times as much as the service can do: how much it goes on doing, and how it refuses."""

import math
import statistics
import subprocess
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx

from bench.common import share
from bench.serving import servers
from bench.serving.load import load
from bench.serving.material import Subject

TIMES = 5
CONNECTIONS = 16  # at which the peak is measured
TURN_S = 15  # seconds of one turn, and of the peak beside it
PEAK_S = 8
SETTLING_S = 3  # until the queue is full and everybody has come


def overload(subject: Subject, seconds: int) -> dict[str, Any]:
    """Goodput over the peak, in turns, because machines that are shared change their speed: each
    turn over the mean of the peaks before and after it. Refusals, memory and health meanwhile."""
    statuses: Counter[int] = Counter()
    refused: list[float] = []
    goodput, offered = [], []
    with servers.ours(subject.home, subject.folder) as address:
        photographs = subject.photographs
        load(address, photographs, connections=CONNECTIONS, seconds=5)  # warm
        peaks = [load(address, photographs, connections=CONNECTIONS, seconds=PEAK_S).per_s]
        watch = Watch(address)
        for _ in range(max(1, seconds // TURN_S)):
            watch.resume()
            rows = _offered(address, photographs[0], math.ceil(TIMES * peaks[-1]), TURN_S)
            watch.pause()
            peaks.append(load(address, photographs, connections=CONNECTIONS, seconds=PEAK_S).per_s)
            peak = statistics.fmean(peaks[-2:])
            answered = sum(status == 200 for status, _ in rows)
            goodput.append(answered / TURN_S / peak)
            offered.append(len(rows) / TURN_S / peak)
            statuses.update(status for status, _ in rows)
            refused += [ms for status, ms in rows if status in (429, 503)]
            print(f"{subject.arch}: peak {peak:.1f}/s, goodput {goodput[-1]:.3f}", flush=True)
    return {
        "overload_goodput": round(statistics.median(goodput), 3),
        "overload_goodput_turns": [round(value, 3) for value in goodput],
        "refusal_ms_p50": round(share(refused, 50), 1),
        "refusal_ms_p99": round(share(refused, 99), 1),
        "overload_offered": round(statistics.fmean(offered), 2),
        "overload_statuses": {str(status): number for status, number in statuses.items()},
        "overload_peaks": [round(peak, 1) for peak in peaks],
        **watch.figures(),
    }


def _offered(address: str, photograph: Path, clients: int, seconds: int) -> list[tuple[int, float]]:
    """Each client asks once a second, and where it still waits, it makes up for it afterwards:
    status and milliseconds of each. They come one after the other within the first second, so that
    they do not ask in chorus."""
    together = math.ceil(clients / 100)
    with tempfile.NamedTemporaryFile(suffix=".log") as log:
        command = [
            "h2load",
            "--h1",
            f"-c{clients}",
            "--rps=1",
            f"-n{clients * (seconds + 8)}",
            "-t1",
        ]
        command += [f"-r{together}", "--rate-period=10ms"]
        command += ["-H", "Content-Type: image/jpeg", "-d", str(photograph)]
        command += [f"--log-file={log.name}", f"{address}/predict"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        lines = Path(log.name).read_text().splitlines()
    rows = [tuple(map(int, line.split("\t"))) for line in lines]
    ends = [start + us for start, _, us in rows]
    began = min(start for start, *_ in rows) + SETTLING_S * 1_000_000
    within = range(began, began + seconds * 1_000_000)
    return [
        (status, us / 1000)
        for (_, status, us), end in zip(rows, ends, strict=True)
        if end in within
    ]


class Watch:
    """Looks at health and memory, while others are busy."""

    def __init__(self, address: str) -> None:
        self._address, self._paused = address, threading.Event()
        self._thread = threading.Thread()
        self._ms: list[float] = []
        self._bad = 0
        self._mb: list[float] = []

    def resume(self) -> None:
        self._paused.clear()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def pause(self) -> None:
        self._paused.set()
        self._thread.join()

    def _run(self) -> None:
        with httpx.Client(base_url=self._address, timeout=10) as client:
            while not self._paused.wait(0.5):
                began = time.monotonic()
                try:
                    self._bad += client.get("/livez").status_code != 200
                except httpx.HTTPError:
                    self._bad += 1
                self._ms.append((time.monotonic() - began) * 1000)
                self._mb.append(resident_mb(self._address))

    def figures(self) -> dict[str, Any]:
        return {
            "health_ms_p99": round(share(self._ms, 99), 1),
            "health_failed": self._bad,
            "overload_mb_first_and_most": [round(self._mb[0]), round(max(self._mb))],
        }


def resident_mb(address: str) -> float:
    """Memory of the process that answers there."""
    return float(servers.worker(address).memory_info().rss) / 2**20

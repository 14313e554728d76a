"""Version after version under load: what a swap costs the callers, and whether any notices."""

import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from bench.common import share
from bench.serving import servers
from bench.serving.load import load
from bench.serving.material import Subject
from bench.serving.overload import resident_mb

CALLERS = 4  # each asks again when it was answered, at half of what the service can do
BUSY = 0.5


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One request, as its caller saw it."""

    at: float  # monotonic clock, seconds
    ms: float
    model: str  # that answered; empty: it failed
    agreed: bool  # body and header name the same


def swaps(subject: Subject, number: int, every_s: float) -> dict[str, Any]:
    """So many promotions in turn of two versions, `every_s` seconds apart."""
    with (
        servers.ours(subject.home, subject.folder) as address,
        httpx.Client(base_url=address, timeout=60) as operator,
    ):
        peak = load(address, subject.photographs, connections=16, seconds=8).per_s
        each = BUSY * peak / CALLERS
        callers = [Caller(address, subject.photographs, each) for _ in range(CALLERS)]
        for caller in callers:
            caller.start()
        time.sleep(every_s)
        began = time.monotonic()
        time.sleep(max(30.0, 2 * every_s))
        steady = (began, time.monotonic())
        moves: list[tuple[float, float]] = []
        memory = []
        for turn in range(number):
            version = subject.versions[(turn + 1) % 2]
            asked = time.monotonic()
            operator.post(
                f"/v1/models/{version}/promote", json={"reason": "to be measured"}
            ).raise_for_status()
            while operator.get("/v1/model").json()["version"] != version:
                time.sleep(0.05)
            moves.append((asked, time.monotonic()))
            time.sleep(max(0.0, every_s - (time.monotonic() - asked)))
            memory.append(resident_mb(address))
        ended = time.monotonic()
        for caller in callers:
            caller.stop()
    rows = [row for caller in callers for row in caller.rows]
    calm = [row.ms for row in rows if steady[0] <= row.at < steady[1]]
    during = [row.ms for row in rows if moves[0][0] <= row.at < ended]
    return {
        "swap_failed": sum(not row.model for row in rows),
        "swap_wrong_version": sum(
            not row.agreed or row.model not in subject.versions for row in rows if row.model
        ),
        "swap_p99_over_steady": round(share(during, 99) / share(calm, 99), 3),
        "swap_ms_p99": [round(share(calm, 99), 1), round(share(during, 99), 1)],
        "swap_requests": [len(calm), len(during)],
        "swap_seconds": round(max(end - start for start, end in moves), 2),
        "swap_memory_growth": round(memory[-1] / memory[1] - 1, 4),
        "swap_memory_mb": [round(mb) for mb in memory],
    }


class Caller(threading.Thread):
    """Asks at an even rate, as far as it is answered."""

    def __init__(self, address: str, photographs: list[Path], per_s: float) -> None:
        super().__init__(daemon=True)
        self.rows: list[Asked] = []
        self._address, self._every_s = address, 1 / per_s
        self._bodies = [path.read_bytes() for path in photographs]
        self._stop_ = threading.Event()

    def stop(self) -> None:
        self._stop_.set()
        self.join()

    def run(self) -> None:
        headers = {"Content-Type": "image/jpeg"}
        with httpx.Client(base_url=self._address, timeout=60) as client:
            due = time.monotonic()
            while not self._stop_.wait(max(0.0, due - time.monotonic())):
                due = max(due + self._every_s, time.monotonic())
                body = self._bodies[len(self.rows) % len(self._bodies)]
                at = time.monotonic()
                model, agreed = "", False
                try:
                    answer = client.post("/predict", content=body, headers=headers)
                    if answer.status_code == 200:
                        model = answer.json()["model"]
                        agreed = answer.headers.get("X-Model-Version") == model
                except httpx.HTTPError:
                    pass
                ms = (time.monotonic() - at) * 1000
                self.rows.append(Asked(at=at, ms=ms, model=model, agreed=agreed))

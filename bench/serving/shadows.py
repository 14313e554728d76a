"""A candidate beside production: what its scoring costs those who wait for answers."""

import time
from typing import Any

import httpx

from bench.common import share
from bench.serving import servers
from bench.serving.load import load
from bench.serving.material import Subject
from bench.serving.swaps import Caller

CALLERS = 4
BUSY = 0.3  # of the peak: with less idle time there is little that a candidate scores


def shadows(subject: Subject, rounds: int, turn_s: float) -> dict[str, Any]:
    """Turns without and with a candidate that scores every image, at an even rate of requests."""
    calm: list[float] = []
    beside: list[float] = []
    with (
        servers.ours(subject.home, subject.folder, shadow_share="1") as address,
        httpx.Client(base_url=address, timeout=60) as operator,
    ):
        peak = load(address, subject.photographs, connections=16, seconds=8).per_s
        callers = [
            Caller(address, subject.photographs, BUSY * peak / CALLERS) for _ in range(CALLERS)
        ]
        for caller in callers:
            caller.start()
        model = operator.get("/v1/model").json()["version"]
        other = next(name for name in subject.versions if name != model)
        for _ in range(rounds):
            for waits, method in ((calm, "DELETE"), (beside, "POST")):
                operator.request(method, f"/v1/models/{other}/shadow")
                time.sleep(5)  # it is loaded, or has ended
                began = time.monotonic()
                time.sleep(turn_s)
                ended = time.monotonic()
                waits.extend(
                    row.ms for caller in callers for row in caller.rows if began <= row.at < ended
                )
        for caller in callers:
            caller.stop()
        time.sleep(6)  # what was counted is noted
        against = operator.get(f"/v1/models/{other}/shadow").json()["against"]
    return {
        "shadow_p50_over_without": round(share(beside, 50) / share(calm, 50), 3),
        "shadow_p99_over_without": round(share(beside, 99) / share(calm, 99), 3),
        "shadow_ms_p99": [round(share(calm, 99), 1), round(share(beside, 99), 1)],
        "shadow_scored": sum(row["images"] for row in against),
        "shadow_answered": len(beside),
    }

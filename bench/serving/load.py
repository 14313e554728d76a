"""wrk: the load generator, in C."""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

SCRIPT = Path(__file__).with_name("post.lua")


@dataclass(frozen=True, kw_only=True)
class Load:
    """What came of some seconds of requests."""

    per_s: float  # answers of status 200
    mean_ms: float
    p50_ms: float
    p99_ms: float
    failed: int  # other statuses, broken connections


def load(
    address: str, photographs: list[Path], *, connections: int, seconds: float, form: bool = False
) -> Load:
    """Post photographs over so many connections, each waiting for its answer.

    Args:
        form: as a multipart form; else as the bare body.
    """
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds:g}s", "--latency", "--timeout=30s"]
    command += ["-s", str(SCRIPT), f"{address}/predict", "--"]
    command += [*(["form"] if form else []), *map(str, photographs)]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    said = json.loads(out.partition("JSON ")[2])
    failed = said["bad_status"] + said["socket"]
    return Load(
        per_s=(said["requests"] - said["bad_status"]) / said["us"] * 1e6,
        mean_ms=said["mean_us"] / 1000,
        p50_ms=said["p50_us"] / 1000,
        p99_ms=said["p99_us"] / 1000,
        failed=failed,
    )

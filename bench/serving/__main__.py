"""`POST /predict` against the limit of the machine, and against what others would write.

Everybody is up at once and rests until it is its turn: machines that are shared change their speed
within minutes, so figures are ratios within one round of turns.
"""

import statistics
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

from bench.common import main, options
from bench.serving import material, servers
from bench.serving.gpu import gpu
from bench.serving.load import load
from bench.serving.overload import overload
from bench.serving.shadows import shadows
from bench.serving.swaps import swaps

PARTS = ("limit", "peers", "overload", "swaps", "shadow", "gpu")
SUBJECTS = (("resnet34", 224), ("squeezenet1_0", 128))
ROUNDS = 15
CONNECTIONS = 16
TURN_S = 6  # seconds of one turn: what is under way at its end counts for nothing


def measure(quick: bool, only: str) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    if only == "gpu" and not torch.cuda.is_available():
        return {"gpu": "left out: PyTorch sees no CUDA device"}
    with tempfile.TemporaryDirectory(prefix="toploss-bench-") as scratch:
        for arch, size in SUBJECTS[:1] if quick or only == "gpu" else SUBJECTS:
            folder = Path(scratch) / arch
            subject = material.Subject.make(folder, arch, size)
            rounds = 3 if quick else ROUNDS
            found: dict[str, Any] = {}
            if "limit".startswith(only):
                found |= against_the_limit(subject, rounds)
            if "peers".startswith(only) and arch == SUBJECTS[0][0]:
                found |= against_peers(subject, rounds)
            if "overload".startswith(only) and arch == SUBJECTS[0][0]:
                found |= overload(subject, 15 if quick else 60)
            if "swaps".startswith(only) and arch == SUBJECTS[0][0]:
                found |= swaps(subject, *((4, 10) if quick else (20, 30)))
            if "shadow".startswith(only) and arch == SUBJECTS[0][0]:
                found |= shadows(subject, *((1, 20) if quick else (6, 30)))
            if torch.cuda.is_available() and "gpu".startswith(only) and arch == SUBJECTS[0][0]:
                found |= gpu(subject, *((1, 3) if quick else (3, TURN_S)))
            figures |= found if arch == SUBJECTS[0][0] else {arch: found}
    return figures


def against_the_limit(subject: material.Subject, rounds: int) -> dict[str, Any]:
    """Throughput at 16 connections, and latency at one, over decode and forward in a bare loop."""
    rates, limits, waits, cpu = [], [], [], []
    with (
        servers.ours(subject.home, subject.folder) as address,
        servers.bare(subject.version, subject.photographs) as bare,
    ):
        load(address, subject.photographs, connections=CONNECTIONS, seconds=TURN_S)
        for _ in range(rounds):
            one = bare.ask("one", TURN_S / 2)["ms"]
            alone = load(address, subject.photographs, connections=1, seconds=TURN_S / 2)
            ways = bare.ask("all", 2 * TURN_S)
            before = sum(servers.worker(address).cpu_times()[:2])
            full = load(address, subject.photographs, connections=CONNECTIONS, seconds=TURN_S)
            spent = sum(servers.worker(address).cpu_times()[:2]) - before
            cpu.append(spent * 1000 / (full.per_s * TURN_S))
            limits.append(ways)
            waits.append((alone.mean_ms, one))
            rates.append(full.per_s)
            print(
                f"{subject.arch}: limit {max(ways.values()):.1f}/s, ours {full.per_s:.1f}/s; "
                f"one {one:.1f} ms, ours {alone.mean_ms:.1f} ms "
                f"({alone.mean_ms / one:.3f}), failed {full.failed + alone.failed}",
                flush=True,
            )
    # The way that is best over all rounds: the best of each would be that of the luckiest.
    best = max(limits[0], key=lambda way: statistics.median(row[way] for row in limits))
    ratios = [rate / row[best] for rate, row in zip(rates, limits, strict=True)]
    return {
        "throughput_over_limit": _middle(ratios),
        "throughput_spread": _spread(ratios),
        "latency_over_limit": _middle([ours / one for ours, one in waits]),
        "latency_spread": _spread([ours / one for ours, one in waits]),
        "overhead_ms": _middle([ours - one for ours, one in waits]),
        "cpu_ms_per_answer": _middle(cpu),
        "answers_per_s": _middle(rates),
        "limit_per_s": {way: _middle([row[way] for row in limits]) for way in limits[0]},
    }


def against_peers(subject: material.Subject, rounds: int) -> dict[str, Any]:
    """Throughput at 16 connections over each peer's; all are sent multipart forms."""
    ratios: dict[str, list[float]] = {name: [] for name in servers.PEERS}
    with ExitStack() as stack:
        ours = stack.enter_context(servers.ours(subject.home, subject.folder))
        addresses = {
            name: stack.enter_context(
                servers.peer(
                    name, subject.version, subject.learner, subject.photographs[0], subject.folder
                )
            )
            for name in servers.PEERS
        }
        everybody = {"ours": ours, **addresses}
        for number in range(rounds + 1):
            found = {}
            for name, address in everybody.items():
                with servers.others_at_rest(address, everybody.values()):
                    found[name] = load(
                        address,
                        subject.photographs,
                        connections=CONNECTIONS,
                        seconds=TURN_S,
                        form=True,
                    )
            if number == 0:
                continue  # everybody warms up
            for name in servers.PEERS:
                ratios[name].append(found["ours"].per_s / found[name].per_s)
            told = (
                f"{name} {one.per_s:.1f}/s ({one.failed} failed)" for name, one in found.items()
            )
            print(f"{subject.arch}: " + ", ".join(told), flush=True)
    return {
        f"over_{name.removeprefix('with_')}": _middle(values) for name, values in ratios.items()
    } | {f"over_{name.removeprefix('with_')}_spread": _spread(v) for name, v in ratios.items()}


def _middle(values: list[float]) -> float:
    return round(statistics.median(values), 3)


def _spread(values: list[float]) -> list[float]:
    """The quartiles."""
    if len(values) < 2:
        return [round(value, 3) for value in values]
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return [round(low, 3), round(high, 3)]


if __name__ == "__main__":
    parser = options("serving", "three rounds, ResNet-34 alone")
    parser.add_argument("--only", default="", choices=PARTS, help="one part")
    main(parser, lambda args: measure(args.quick, args.only))

"""`POST /predict` on a GPU, beside the bare loop of the same engine, and what decodes for it.

The GPU's own pace is that of the engine which the service takes there, on full batches which are in
memory already: bytes to the GPU, a CUDA graph, logits and features back. The machine's is what its
cores decode, by Pillow, as the service does. nvJPEG is measured beside it: a list of files in one
call, resized on the GPU.
"""

import functools
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import numpy as np
import torch

from bench.serving import material, servers
from bench.serving.load import load
from toploss.artifact import Loaded, open_folder
from toploss.cuda import SIZES, CudaEngine
from toploss.engine import Engine, Images, OnnxEngine, golden_difference, network_of, softmax
from toploss.loading import images_per_s
from toploss.loading import load as loaded_engine
from toploss.preprocess import Limits, decode
from toploss.settings import available_cores

CLIENTS = (1, 16, 256)
REPLICAS = (1, 4, 8)
PLACES = 512  # TOPLOSS_QUEUE_SIZE: nobody of 256 is refused
BATCH = SIZES[-1]


def gpu(subject: material.Subject, rounds: int, turn_s: float) -> dict[str, Any]:
    loaded = open_folder(subject.version)
    pictures = [path.read_bytes() for path in subject.photographs]
    engine = loaded_engine(loaded, device="cuda", threads=available_cores())
    found: dict[str, Any] = {"gpu": torch.cuda.get_device_name(), "engine": engine.told}
    found["ladder_per_s"] = _ladder(loaded)
    found |= _decoders(loaded, pictures, turn_s)
    rows: list[dict[str, float]] = []
    settings = {"device": "cuda", "engine": "auto", "queue_size": str(PLACES)}
    with servers.ours(subject.home, subject.folder, **settings) as address:
        load(address, subject.photographs, connections=CLIENTS[-1], seconds=turn_s)
        for _ in range(rounds):
            row = {"bare": images_per_s(engine, loaded, turn_s / 2)}
            row["one_ms"] = _one_ms(engine, loaded, pictures, turn_s / 4)
            row["decoded"] = _rate(functools.partial(_by_pillow, loaded, pictures), turn_s / 2)
            for clients in CLIENTS:
                before = sum(servers.worker(address).cpu_times()[:2])
                full = load(address, subject.photographs, connections=clients, seconds=turn_s)
                spent = sum(servers.worker(address).cpu_times()[:2]) - before
                row |= {
                    f"per_s_{clients}": full.per_s,
                    f"p50_ms_{clients}": full.p50_ms,
                    f"p99_ms_{clients}": full.p99_ms,
                    f"cores_{clients}": spent / turn_s,
                    f"failed_{clients}": full.failed,
                }
            rows.append(row)
            print({key: round(value, 2) for key, value in row.items()}, flush=True)
    found["replicas"] = _replicas(subject, turn_s)
    for key in rows[0]:
        found[key] = round(statistics.median(row[key] for row in rows), 2)
    for clients in CLIENTS:
        ratios = [row[f"per_s_{clients}"] / row["bare"] for row in rows]
        found[f"over_bare_{clients}"] = round(statistics.median(ratios), 3)
    return found


def _replicas(subject: material.Subject, turn_s: float) -> dict[int, Any]:
    """Answers a second of several services on this one GPU, each with clients of its own."""
    found: dict[int, Any] = {}
    threads = str(max(1, available_cores() // max(REPLICAS)))
    with ExitStack() as stack:
        addresses: list[str] = []

        def start(place: int) -> str:
            logs = subject.folder / f"replica-{place}"
            logs.mkdir()
            service = servers.ours(subject.home, logs, device="cuda", threads=threads)
            return stack.enter_context(service)

        for number in REPLICAS:
            with ThreadPoolExecutor(number) as starting:
                addresses += starting.map(start, range(len(addresses), number))
            ask = functools.partial(
                load, photographs=subject.photographs, connections=CLIENTS[1], seconds=turn_s
            )
            with ThreadPoolExecutor(number) as clients:
                loads = list(clients.map(ask, addresses))
            found[number] = {
                "per_s": round(sum(one.per_s for one in loads), 1),
                "p50_ms": round(statistics.median(one.p50_ms for one in loads), 1),
                "p99_ms": round(max(one.p99_ms for one in loads), 1),
                "failed": sum(one.failed for one in loads),
            }
    return found


def _ladder(loaded: Loaded) -> dict[str, Any]:
    """Images a second by what the GPU is asked through, and how far each is from training."""
    ways: dict[str, Any] = {}
    for half in (False, True):
        engine = CudaEngine(loaded, half=half)
        ways[engine.told] = {
            "apart": f"{golden_difference(engine, loaded):.1e}",
            **{size: round(_batches(engine, loaded, size)) for size in SIZES},
        }
        eager = functools.partial(_eagerly, network_of(loaded).cuda(), half, _noise(loaded, BATCH))
        eager()
        ways[f"eager, {'half' if half else 'full'} precision"] = {BATCH: round(_rate(eager, 0.5))}
    onnx = OnnxEngine(loaded, threads=available_cores())
    ways["ONNX Runtime on every core"] = round(images_per_s(onnx, loaded, 1.0))
    return ways


def _batches(engine: CudaEngine, loaded: Loaded, size: int) -> float:
    images = _noise(loaded, size)

    def once() -> int:
        engine.outputs(images)
        return size

    once()
    return _rate(once, 0.5)


def _eagerly(network: Any, half: bool, images: Images) -> int:
    """As one would write it in PyTorch: no graph, channels first."""
    half_precision = torch.autocast("cuda", torch.float16, enabled=half)
    with torch.inference_mode(), half_precision:
        batch = torch.from_numpy(images).to("cuda").float() / 255
        network(batch).float().cpu()
    return len(images)


def _noise(loaded: Loaded, number: int) -> Images:
    side = loaded.preprocessing.size
    return np.random.default_rng(0).integers(0, 256, (number, 3, side, side), np.uint8)


def _one_ms(engine: Engine, loaded: Loaded, pictures: list[bytes], seconds: float) -> float:
    """Milliseconds of one image alone, decoded and computed."""
    side, turn = loaded.preprocessing.size, iter(range(10**9))

    def once() -> int:
        data = pictures[next(turn) % len(pictures)]
        engine.outputs(decode(data, side, Limits())[None])
        return 1

    return 1000 / _rate(once, seconds)


def _decoders(loaded: Loaded, pictures: list[bytes], seconds: float) -> dict[str, Any]:
    """Files a second that become squares, by the cores and by the GPU, and how they differ."""
    by_pillow = functools.partial(_by_pillow, loaded, pictures)
    by_gpu = functools.partial(_by_nvjpeg, loaded, pictures)
    by_gpu()
    side = loaded.preprocessing.size
    ours = np.stack([decode(data, side, Limits()) for data in pictures])
    theirs = _nvjpeg(pictures, side).cpu().numpy()
    exact = OnnxEngine(loaded, threads=available_cores())
    apart = np.abs(ours.astype(int) - theirs.astype(int))
    answers = [softmax(exact.outputs(images).logits) for images in (ours, theirs)]
    return {
        "pillow_files_per_s": round(_rate(by_pillow, seconds)),
        "nvjpeg_files_per_s": round(_rate(by_gpu, seconds)),
        "nvjpeg_pixels_apart": [round(float(apart.mean()), 3), int(apart.max())],
        "nvjpeg_probability_apart": float(np.abs(answers[0] - answers[1]).max()),
        "tolerance": loaded.tolerance,
    }


@functools.cache
def _cores() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(available_cores())


def _by_pillow(loaded: Loaded, pictures: list[bytes]) -> int:
    side = loaded.preprocessing.size
    several = [pictures[number % len(pictures)] for number in range(BATCH)]
    return len(list(_cores().map(lambda data: decode(data, side, Limits()), several)))


def _by_nvjpeg(loaded: Loaded, pictures: list[bytes]) -> int:
    several = [pictures[number % len(pictures)] for number in range(BATCH)]
    squares = _nvjpeg(several, loaded.preprocessing.size)
    torch.cuda.synchronize()
    return len(squares)


def _nvjpeg(pictures: list[bytes], side: int) -> Any:
    """uint8 on the GPU, (n, 3, side, side)."""
    from torchvision.io import ImageReadMode, decode_jpeg

    files = [torch.frombuffer(bytearray(data), dtype=torch.uint8) for data in pictures]
    decoded = decode_jpeg(files, mode=ImageReadMode.RGB, device="cuda")
    squares = [
        torch.nn.functional.interpolate(
            one[None].float(), (side, side), mode="bilinear", antialias=True
        )
        for one in decoded
    ]
    return torch.cat(squares).round().clamp(0, 255).to(torch.uint8)


def _rate(once: Callable[[], int], seconds: float) -> float:
    """Images a second of something that is done over and over."""
    done, began = 0, time.perf_counter()
    while (spent := time.perf_counter() - began) < seconds:
        done += once()
    return done / spent

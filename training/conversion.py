"""A trained body for ncnn: converted by pnnx, and tried, each in a process of its own, since what
an architecture holds that they do not know may end them."""

import json
import logging
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch

from toploss.artifact import NCNN
from toploss.network import Network

log = logging.getLogger("toploss.conversion")

PATIENCE_S = 600.0


def write_ncnn(network: Network, folder: Path, draft: dict[str, Any]) -> float | None:
    """The body in ncnn's two files, if it is held to be right.

    Args:
        folder: of the artifact, with its weights and golden images.
        draft: of the manifest: labels, architecture, preprocessing, parity.

    Returns:
        The largest difference of a probability on the golden images; None, when the architecture
        does not convert or does not agree: then neither file is left, and ONNX Runtime serves.
    """
    try:
        _convert(network, folder, int(draft["preprocessing"]["size"]))
        told = _run([sys.executable, "-m", "toploss.ncnn", str(folder)], json.dumps(draft))
        apart = float(told)
        if not apart <= draft["parity"]["tolerance"]:
            raise ValueError(f"it differs from training by {apart:.2g} in a probability")
    except Exception as exc:  # whatever tracing or a converter may raise: it is not needed
        for name in NCNN:
            (folder / name).unlink(missing_ok=True)
        log.info("ncnn does not serve %s (%s); ONNX Runtime does", draft["architecture"], exc)
        return None
    return apart


def _convert(network: Network, folder: Path, size: int) -> None:
    import pnnx

    with tempfile.TemporaryDirectory(prefix="toploss-") as scratch:
        traced = Path(scratch) / "body.pt"
        with warnings.catch_warnings(), torch.inference_mode():
            warnings.simplefilter("ignore")  # of tracing itself, and of what is fixed by it
            image = torch.zeros(1, 3, size, size)
            body: Any = torch.jit.trace(  # type: ignore[no-untyped-call]  # torch's
                network.cpu().eval().body, image, check_trace=False
            )
            body.save(str(traced))
        parameters, weights = (folder / name for name in NCNN)
        unused = [f"{what}=/dev/null" for what in ("pnnxbin", "pnnxpy", "pnnxonnx", "ncnnpy")]
        shape = f"inputshape=[1,3,{size},{size}]"
        files = [f"ncnnparam={parameters}", f"ncnnbin={weights}"]
        # Single precision: it halves the weights else, which shows in the answers.
        _run([pnnx.EXEC_PATH, str(traced), shape, "fp16=0", "device=cpu", *files, *unused])
        if not parameters.is_file() or not weights.is_file():
            raise ValueError("pnnx wrote nothing")


def _run(command: list[str], given: str = "") -> str:
    """What a process says. Raises ValueError: it failed, with the end of its complaint."""
    done = subprocess.run(
        command, input=given, capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    if done.returncode:
        complaint = (done.stderr or done.stdout).strip().splitlines()
        raise ValueError(f"{Path(command[0]).name} ended with {done.returncode}: {complaint[-1:]}")
    return done.stdout

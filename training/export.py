"""A trained network as an artifact: weights, ONNX, golden images, and the proof that they agree."""

import contextlib
import logging
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import load_file, save_file

from toploss.artifact import GOLDEN, ONNX, WEIGHTS, Loaded
from toploss.engine import Engine, OnnxEngine, Probabilities, TorchEngine
from toploss.errors import Broken
from toploss.network import Exported, Network
from toploss.novelty import Bank, packed
from toploss.traits import Traits
from training.conversion import write_ncnn

# Largest difference of a probability between training and an engine. Measured: around 1e-6 for
# fp32 on the CPU; a wrong resize or a lost normalisation shows as 1e-2 and more.
TOLERANCE = 1e-3
GOLDEN_IMAGES = 16


def write_weights(network: Network, path: Path) -> None:
    """The state dict as safetensors."""
    save_file({key: value.contiguous() for key, value in network.state_dict().items()}, path)


def read_weights(network: Network, path: Path) -> None:
    """Load what `write_weights` wrote, into a network of the same architecture and classes."""
    network.load_state_dict(load_file(path))


def write_onnx(network: Network, path: Path, size: int) -> None:
    """The network in eval mode as ONNX, any batch: `images` to `logits`, `features`,
    `feature_map`."""
    network = network.cpu().eval()
    batch = torch.export.Dim("batch")
    quiet = logging.getLogger("torch.onnx")
    level, quiet.level = quiet.level, logging.ERROR
    # The exporter talks on standard output, which belongs to --json.
    with warnings.catch_warnings(), contextlib.redirect_stdout(sys.stderr):
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Exported(network),
            (torch.zeros(2, 3, size, size),),
            str(path),
            input_names=["images"],
            output_names=["logits", "features", "feature_map"],
            dynamic_shapes=({0: batch},),
            external_data=False,
            dynamo=True,
            verbose=False,
        )
    quiet.level = level


def write_golden(
    images: npt.NDArray[np.uint8], probabilities: Probabilities, ids: Sequence[str], path: Path
) -> None:
    """The images that every server checks itself on when it loads the version, and the samples that
    they are."""
    save_arrays(
        {
            "images": np.ascontiguousarray(images[:GOLDEN_IMAGES]),
            "probabilities": np.ascontiguousarray(probabilities[:GOLDEN_IMAGES]),
            "ids": packed(ids[:GOLDEN_IMAGES]),
        },
        path,
    )


def write_features(bank: Bank, path: Path) -> None:
    """The bank as `toploss.novelty.read` takes it."""
    save_arrays(bank.as_arrays(), path)


def write_traits(traits: Traits, path: Path) -> None:
    """As `toploss.traits.read` takes them."""
    save_arrays(traits.as_arrays(), path)


def write(
    network: Network,
    folder: Path,
    draft: dict[str, Any],
    images: npt.NDArray[np.uint8],
    probabilities: Probabilities,
    ids: Sequence[str],
    *,
    threads: int,
) -> tuple[dict[str, Any], Engine]:
    """Every file of the artifact but the manifest.

    Args:
        draft: of the manifest: labels, architecture, preprocessing.
        images: real pictures of the validation split, uint8 (n, 3, s, s).
        probabilities: training's, for these pictures.
        ids: of their samples.

    Returns:
        The parity for the manifest (ncnn's is of the golden images), and ONNX Runtime's engine.

    Raises:
        Broken: an engine does not agree with training; nothing may be published.
    """
    size = images.shape[-1]
    write_weights(network, folder / WEIGHTS)
    write_onnx(network, folder / ONNX, size)
    write_golden(images, probabilities, ids, folder / GOLDEN)
    loaded = Loaded(folder=folder, manifest=draft)
    served = OnnxEngine(loaded, threads=threads)
    engines: list[Engine] = [served, TorchEngine(loaded, threads=threads)]
    apart = {
        engine.name: float(np.abs(engine.probabilities(images) - probabilities).max())
        for engine in engines
    }
    for name, difference in apart.items():
        if not difference <= TOLERANCE:
            raise Broken(
                f"the exported model on {name} differs from training by {difference:.2g} in a "
                f"probability, more than {TOLERANCE:g}; it is not published"
            )
    parity = {"tolerance": TOLERANCE, "images": len(images), "difference": apart}
    by_ncnn = write_ncnn(network, folder, {**draft, "parity": parity})
    if by_ncnn is not None:
        apart["ncnn"] = by_ncnn
    return parity, served

"""The network in eager PyTorch, for the peers that batch."""

import os
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file

from toploss.artifact import WEIGHTS, open_folder
from toploss.network import build


class Eager:
    """The version's own network: decode one picture, or answer for a batch of them."""

    def __init__(self) -> None:
        from pathlib import Path

        loaded = open_folder(Path(os.environ["PEER_MODEL"]))
        how = loaded.preprocessing
        self.size, self.labels = how.size, loaded.labels
        self._mean = torch.tensor(how.mean).view(3, 1, 1)
        self._std = torch.tensor(how.std).view(3, 1, 1)
        self._network = build(loaded.manifest["architecture"], len(self.labels), size=how.size)
        self._network.load_state_dict(load_file(loaded.folder / WEIGHTS))
        # As torchvision's and fastai's weights lie: channels last is an advice of ours.
        self._network.eval().to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]

    def decoded(self, picture: Image.Image) -> torch.Tensor:
        small = picture.convert("RGB").resize((self.size, self.size), Image.Resampling.BILINEAR)
        pixels = torch.from_numpy(np.array(small)).permute(2, 0, 1).float() / 255
        return (pixels - self._mean) / self._std

    def answers(self, batch: torch.Tensor) -> list[dict[str, Any]]:
        with torch.inference_mode():
            shares = self._network(batch).softmax(1)
        best = shares.argmax(1).tolist()
        return [
            {"label": self.labels[place], "confidence": float(row[place])}
            for place, row in zip(best, shares, strict=True)
        ]

"""BentoML with `batchable=True` and eager PyTorch."""

from typing import Any

import bentoml
import torch
from PIL.Image import Image

from bench.serving.peers.network import Eager


@bentoml.service(workers=1, traffic={"timeout": 60})
class Classifier:
    def __init__(self) -> None:
        self._eager = Eager()

    @bentoml.api(batchable=True, max_batch_size=16, max_latency_ms=10_000)  # type: ignore[untyped-decorator]
    def predict(self, image: list[Image]) -> list[dict[str, Any]]:
        return self._eager.answers(torch.stack([self._eager.decoded(one) for one in image]))

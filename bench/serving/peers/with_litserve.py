"""LitServe with dynamic batching and eager PyTorch."""

import os
from typing import Any

import litserve
import torch
from fastapi import Request
from PIL import Image

from bench.serving.peers.network import Eager


class Classifier(litserve.LitAPI):  # type: ignore[misc]  # untyped there
    def setup(self, device: str) -> None:
        self.eager = Eager()

    def decode_request(self, request: Request) -> torch.Tensor:
        form: Any = request  # by its annotation it knows that a form is meant, and hands on that
        return self.eager.decoded(Image.open(form["image"].file))

    def batch(self, inputs: list[torch.Tensor]) -> torch.Tensor:
        return torch.stack(inputs)

    def predict(self, batch: torch.Tensor) -> list[dict[str, Any]]:
        return self.eager.answers(batch)

    def unbatch(self, output: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return output

    def encode_response(self, output: dict[str, Any]) -> dict[str, Any]:
        return output


if __name__ == "__main__":
    api = Classifier(max_batch_size=16, batch_timeout=0.01)
    server = litserve.LitServer(api, accelerator="cpu")
    server.run(host="127.0.0.1", port=int(os.environ["PEER_PORT"]), generate_client_file=False)

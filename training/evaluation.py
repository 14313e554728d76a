"""How good a model is: probabilities on pictures, and what they say."""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch

from toploss import orders
from toploss.engine import Probabilities, softmax
from toploss.network import Network
from toploss.preprocess import Preprocessing, normalise
from toploss.snapshots import Row
from training.data import Pictures
from training.memory import in_portions
from training.precision import exact

BATCH = 32

# uint8 (n, 3, s, s) to float32 (n, classes): a network in training's hands, or an engine.
Model = Callable[[npt.NDArray[np.uint8]], Probabilities]


def reference(network: Network, preprocessing: Preprocessing, device: str) -> Model:
    """The trained network itself, in eval mode: what the serving engines must agree with."""
    network.to(device).eval()

    def probabilities(images: npt.NDArray[np.uint8]) -> Probabilities:
        batch = torch.from_numpy(normalise(images, preprocessing)).to(device)
        with torch.inference_mode(), exact():
            return softmax(network(batch).float().cpu().numpy())

    return probabilities


def predicted(model: Model, pictures: Pictures, rows: Sequence[Row]) -> Probabilities:
    """Probabilities of a model for rows of a snapshot: float32, (n, classes), unaugmented."""
    made: list[Probabilities] = []

    def judge(start: int, stop: int) -> None:
        made.append(model(pictures.stack(rows[start:stop])))

    in_portions(len(rows), BATCH, judge)
    return np.concatenate(made)


def metrics(probabilities: Probabilities, truth: npt.NDArray[np.intp]) -> dict[str, float]:
    """Accuracy, 0 to 1, and mean cross-entropy in nats."""
    hits = probabilities.argmax(axis=1) == truth
    loss = orders.loss(probabilities, truth)
    return {"accuracy": float(hits.mean()), "loss": float(loss.mean())}


def confusion(probabilities: Probabilities, truth: npt.NDArray[np.intp]) -> list[list[int]]:
    """Counts: row, the true class; column, the predicted one."""
    size = probabilities.shape[1]
    table = np.zeros((size, size), int)
    np.add.at(table, (truth, probabilities.argmax(axis=1)), 1)
    rows: list[list[int]] = table.tolist()
    return rows

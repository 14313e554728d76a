"""A version that knows what its snapshot looked like, and traffic that looks otherwise."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from tests.service.conftest import LABELS, SIZE, House
from toploss import novelty, traits
from toploss.answers import Answer, Guess
from toploss.artifact import FEATURES, TRAITS, Loaded
from toploss.drift import Reference
from toploss.engine import OnnxEngine, softmax
from toploss.preprocess import Preprocessing


def watched(folder: Path) -> dict[str, Any]:
    """A bank and traits, of 60 pictures of noise around each of the three colours."""
    rng = np.random.default_rng(0)
    colours = np.repeat(np.array([[40, 40, 220], [40, 220, 40], [220, 40, 40]]), 60, axis=0)
    noise = rng.normal(0, 20, (180, 3, 1, 1)) + rng.normal(0, 20, (180, 3, SIZE, SIZE))
    images = (colours[:, :, None, None] + noise).clip(0, 255).astype(np.uint8)
    how = {"preprocessing": Preprocessing(size=SIZE).as_json()}
    outputs = OnnxEngine(Loaded(folder=folder, manifest=how), threads=1).outputs(images)
    ids = [f"{n:064x}" for n in range(90)]
    bank = novelty.bank(outputs.features[::2], np.zeros(90, np.int32), ids, ids)
    save_file(bank.as_arrays(), folder / FEATURES)
    shares = softmax(outputs.logits[1::2])
    found, bins = traits.learn(bank, outputs.features[1::2], shares.max(axis=1))
    save_file(found.as_arrays(), folder / TRAITS)
    reference = Reference.of(shares.argmax(axis=1), len(LABELS), bins, found)
    return {"novelty": {"threshold": 0.5}, "drift": json.loads(json.dumps(reference.as_json()))}


def answered(house: House, label: str, times: int) -> None:
    """As if so many images had been, far from what was learned."""
    serving = house.desk.swap.now()
    bins = bytes([9] + [0] * (len(serving.reader.traits.names) - 1))
    guess = Guess(label=label, confidence=0.5)
    for _ in range(times):
        house.desk.traffic.count(
            serving, Answer(guesses=(guess,), novelty=1.0, uncertain=True, traits=bins)
        )

"""What a network's outputs mean: guesses with a confidence, and how far to go by them."""

from dataclasses import dataclass
from typing import Self

import numpy as np

from toploss import novelty, traits
from toploss.artifact import FEATURES, TRAITS, Loaded
from toploss.engine import Outputs, Probabilities, softmax
from toploss.novelty import Bank
from toploss.traits import Traits


@dataclass(frozen=True, kw_only=True, slots=True)
class Guess:
    """One class."""

    label: str
    confidence: float  # calibrated probability, 0 to 1; those of all classes sum to 1


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a version says of one image."""

    guesses: tuple[Guess, ...]  # every class, the likeliest first
    novelty: float | None  # distance to the nearest training images, 0 to 2; None: not known
    uncertain: bool  # not to be gone by without a look: little confidence, or a novel image
    traits: bytes = b""  # in which bin each of the version's traits is; none: it has none


@dataclass(frozen=True, kw_only=True)
class Reader:
    """How one version's outputs are read."""

    labels: tuple[str, ...]  # in the order of the logits
    uncertain_below: float  # confidence of the best guess
    temperature: float = 1.0  # that the logits are divided by: training.calibration
    bank: Bank | None = None  # training images, to tell what is novel
    novel_above: float = float("inf")
    traits: Traits | None = None  # what is watched for drift; only beside a bank

    @classmethod
    def of(cls, loaded: Loaded, *, uncertain_below: float) -> Self:
        """As the manifest says; a version from before there were temperature and novelty goes
        without them."""
        manifest = loaded.manifest
        known, watched = "novelty" in manifest, "drift" in manifest
        return cls(
            labels=loaded.labels,
            uncertain_below=uncertain_below,
            temperature=float(manifest.get("temperature", 1.0)),
            bank=novelty.read(loaded.folder / FEATURES) if known else None,
            novel_above=float(manifest["novelty"]["threshold"]) if known else float("inf"),
            traits=traits.read(loaded.folder / TRAITS) if watched else None,
        )

    def shares(self, outputs: Outputs) -> Probabilities:
        """Calibrated: (n, classes), rows sum to 1."""
        return softmax(outputs.logits / np.float32(self.temperature))

    def read(self, outputs: Outputs) -> list[Answer]:
        """An answer for each row."""
        shares = self.shares(outputs)
        orders = np.argsort(-shares, axis=1, kind="stable")
        unlike: list[float] | list[None] = [None] * len(shares)
        bins = [b""] * len(shares)
        if self.bank is not None:
            scores = novelty.score(outputs.features, self.bank)
            unlike = scores.tolist()
            if self.traits is not None:
                found = self.traits.bins(outputs.features, scores, shares.max(axis=1))
                bins = [row.tobytes() for row in found]
        return [
            Answer(
                guesses=tuple(
                    Guess(label=self.labels[place], confidence=float(row[place])) for place in order
                ),
                novelty=strange,
                uncertain=bool(
                    row[order[0]] < self.uncertain_below
                    or (strange is not None and strange > self.novel_above)
                ),
                traits=traits,
            )
            for row, order, strange, traits in zip(shares, orders, unlike, bins, strict=True)
        ]

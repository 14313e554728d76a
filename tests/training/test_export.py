"""What the export writes beside the network."""

from pathlib import Path

import numpy as np

from toploss import artifact, novelty
from training import export


def test_the_bank_of_features_can_be_read_again(tmp_path: Path) -> None:
    given = np.random.default_rng(1).normal(0, 1, (6, 8)).astype(np.float32)
    names = [f"{n:064x}" for n in range(6)]
    bank = novelty.bank(given, np.arange(6) % 2, names, names)

    export.write_features(bank, tmp_path / artifact.FEATURES)
    found = novelty.read(tmp_path / artifact.FEATURES)

    assert found.ids == bank.ids
    assert np.abs(found.features - bank.features).max() < 1e-3

import json

import numpy as np
import pytest
from safetensors.numpy import save_file

from toploss import novelty, traits
from toploss.answers import Reader
from toploss.artifact import FEATURES, TRAITS, Loaded
from toploss.engine import Outputs, softmax

LABELS = ("cat", "dog", "emu")
LOGITS = np.array([[2.0, 1.0, 0.0], [0.0, 0.0, 9.0]], np.float32)


def outputs(logits=LOGITS, features=None):
    if features is None:
        features = np.ones((len(logits), 8), np.float32)
    return Outputs(logits=logits, features=features)


@pytest.fixture
def bank():
    """Training images whose mean features all point one way."""
    features = np.tile(np.array([0, 0, 0, 0, 1, 0, 0, 0], np.float32), (5, 1))
    places = np.zeros(5, np.int32)
    return novelty.bank(features, places, [f"{n:064x}" for n in range(5)], list("abcde"))


def loaded(folder, bank=None, **manifest):
    if bank is not None:
        save_file(bank.as_arrays(), folder / FEATURES)
    said = json.loads(json.dumps({"labels": list(LABELS), **manifest}))
    return Loaded(folder=folder, manifest=said)


def test_guesses_come_likeliest_first_and_sum_to_one():
    first, second = Reader(labels=LABELS, uncertain_below=0.5).read(outputs())

    assert [guess.label for guess in first.guesses] == ["cat", "dog", "emu"]
    assert second.guesses[0].label == "emu"
    assert sum(guess.confidence for guess in first.guesses) == pytest.approx(1)
    assert first.guesses[0].confidence == pytest.approx(float(softmax(LOGITS)[0, 0]))


def test_confidence_is_calibrated(tmp_path):
    reader = Reader.of(loaded(tmp_path, temperature=2.0), uncertain_below=0.5)

    found = reader.read(outputs())[0].guesses[0].confidence

    assert found == pytest.approx(float(softmax(LOGITS / 2)[0, 0]))


def test_little_confidence_is_uncertain():
    first, second = Reader(labels=LABELS, uncertain_below=0.7).read(outputs())

    assert (first.uncertain, second.uncertain) == (True, False)
    assert first.novelty is None


def test_a_novel_image_is_uncertain_however_confident(tmp_path, bank):
    given = loaded(tmp_path, bank, novelty={"threshold": 0.1})
    reader = Reader.of(given, uncertain_below=0.0)
    features = np.zeros((2, 8), np.float32)
    features[0, 4] = features[1, 5] = 3.0  # one along the bank, one across it

    known, strange = reader.read(outputs(features=features))

    assert (known.uncertain, strange.uncertain) == (False, True)
    assert known.novelty == pytest.approx(0, abs=1e-3)
    assert strange.novelty == pytest.approx(1, abs=1e-3)


def test_an_early_version_goes_without_temperature_and_novelty(tmp_path):
    reader = Reader.of(loaded(tmp_path), uncertain_below=0.0)

    found = reader.read(outputs())[0]

    assert found.guesses[0].confidence == pytest.approx(float(softmax(LOGITS)[0, 0]))
    assert (found.novelty, found.uncertain) == (None, False)


def test_an_answer_says_into_which_bins_it_falls(tmp_path, bank):
    features = np.random.default_rng(0).random((40, 8), np.float32)
    confidence = np.linspace(0.4, 1, 40, dtype=np.float32)
    watched, _ = traits.learn(bank, features, confidence)
    save_file(watched.as_arrays(), tmp_path / TRAITS)
    given = loaded(tmp_path, bank, novelty={"threshold": 0.1}, drift={})

    along, sure = Reader.of(given, uncertain_below=0.0).read(
        outputs(features=np.eye(8, dtype=np.float32)[[4, 4]])
    )

    assert (along.traits[0], sure.traits[0]) == (0, 0)  # nothing is nearer to the bank
    assert along.traits[1] < sure.traits[1] == watched.edges.shape[1]
    assert Reader(labels=LABELS, uncertain_below=0.0).read(outputs())[0].traits == b""

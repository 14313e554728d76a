"""When a shift is one, when it is chance, and what is put on record of it."""

import time

import numpy as np
import pytest

from tests.toploss import given
from toploss import alarms, classes, drift, models, traffic
from toploss.drift import ALARM, Kind, State, index
from toploss.errors import NoModel

REFERENCE = {
    "drift": {
        "images": 400,
        "classes": [200, 200],
        "traits": {"novelty": [100] * 4, "confidence": [200, 200]},
    }
}


@pytest.fixture
def watched(any_home):
    """Production with a reference: as many cats as dogs."""
    for label in ("cat", "dog"):
        classes.add(any_home, label, actor="ann")
    given.promoted(any_home, "cat", "dog", **REFERENCE)
    return any_home


def answer(home, cats, dogs, novelty=None, confidence=None):
    number = cats + dogs
    cells = {(0, 0): cats, (0, 1): dogs}
    for kind, bins in ((1, novelty or [number / 4] * 4), (2, confidence or [number / 2] * 2)):
        cells |= {(kind, place): round(count) for place, count in enumerate(bins)}
    alias = models.production(home)
    with home.db.write() as connection:
        traffic.add(connection, alias.version, traffic.hour(time.time()), cells)


def record(home):
    with home.db.write() as connection:
        return [alarm.kind for alarm in drift.record(connection, drift.look(home))]


def test_the_same_shares_are_no_shift():
    assert index([100] * 10, [200] * 10).statistic == 0


@pytest.mark.parametrize(
    ("expected", "seen", "least", "most"),
    [
        ([500] * 2, [800, 200], 0.38, 0.44),  # 0.6 ln 4 / 2 = 0.416, less a little by chance
        ([100] * 10, [300] + [78] * 9, 0.2, 0.3),  # one class three times as often
        ([100] * 10, [0] + [111] * 9, 0.5, 1.2),  # one that comes no more
    ],
)
def test_a_shift_has_the_size_that_people_know(expected, seen, least, most):
    found = index(expected, seen)

    assert least < found.statistic < most
    assert found.statistic > found.chance


def test_rare_bins_count_together_and_one_that_grew_counts_alone():
    """A thousand classes, of which one that was rare has become frequent."""
    expected, seen = np.ones(1000, int), np.zeros(1000, int)
    seen[:250], seen[7] = 1, 250

    assert index(expected, seen).statistic > ALARM
    assert index(expected, np.ones(1000, int)).statistic < 0.01
    assert index([3, 1], [1, 2]) is None
    assert index([10, 10], [0, 0]) is None


@pytest.mark.parametrize(("bins", "images"), [(2, 40), (10, 60), (10, 500), (300, 500)])
def test_chance_alone_is_hardly_ever_a_shift(bins, images):
    """Of 1000 windows without any, at most one in a hundred is called worth a look."""
    rng, shares = np.random.default_rng(0), 1 / np.arange(1, bins + 1)
    shares /= shares.sum()
    called = 0
    for _ in range(1000):
        found = index(rng.multinomial(images, shares), rng.multinomial(200, shares))
        called += found.statistic >= max(drift.WATCH * ALARM, found.chance)

    assert called <= 10


def test_nothing_is_said_before_there_is_enough(watched, open_home):
    answer(watched, 100, 99)

    found = drift.look(watched)

    assert (found.state, found.answers, found.needed) == (State.TOO_FEW, 199, 200)
    assert found.why == "199 answers, of 200 that it takes"
    assert found.kinds[Kind.CLASSES].statistic is None
    assert found.kinds[Kind.CLASSES].items[0].keys() == {"label", "expected", "seen"}


def test_without_a_model_or_a_reference(home):
    with pytest.raises(NoModel, match="no version has been promoted"):
        drift.look(home)
    classes.add(home, "cat", actor="ann")
    version = given.promoted(home, "cat")

    found = drift.look(home)

    assert (found.state, found.reference) == (State.NO_REFERENCE, 0)
    assert found.why.startswith(f"version {version} was published before")


def test_each_kind_is_told_for_itself(watched):
    answer(watched, 150, 150)
    assert drift.look(watched).state == State.OK

    answer(watched, 1200, 100)
    found = drift.look(watched)
    assert (found.state, found.kinds[Kind.FEATURES].state) == (State.ALARM, State.OK)
    assert found.why.startswith("classes have shifted by 0.5")
    assert "cat 84.4% instead of 50.0%" in found.why
    assert found.as_json()["classes"]["threshold"] == ALARM


def test_the_trait_that_shifted_most_speaks_for_the_features(watched):
    answer(watched, 150, 150, novelty=[10, 20, 70, 200])

    found = drift.look(watched)

    assert found.kinds[Kind.CLASSES].state == State.OK
    assert found.kinds[Kind.FEATURES].state == State.ALARM
    assert found.kinds[Kind.FEATURES].items[0]["trait"] == "novelty"
    assert "novelty" in found.why


def test_an_alarm_is_on_record_once_until_it_has_gone(watched):
    answer(watched, 280, 20)
    assert record(watched) == [Kind.CLASSES]
    assert record(watched) == []
    with watched.db.read() as connection:
        standing = alarms.standing(connection)
    assert (standing.kind, standing.answers, standing.ended_at) == ("classes", 300, None)

    answer(watched, 0, 112)  # less, but still worth a look
    assert drift.look(watched).state == State.WATCH
    record(watched)
    assert drift.look(watched).alarms[0].ended_at is None
    answer(watched, 0, 150)
    assert record(watched) == []
    assert drift.look(watched).alarms[0].ended_at is not None
    with watched.db.read() as connection:
        assert alarms.standing(connection) is None

    answer(watched, 3000, 0)
    assert record(watched) == [Kind.CLASSES]
    assert len(drift.look(watched).alarms) == 2


def test_another_version_starts_anew(watched):
    answer(watched, 280, 20)
    record(watched)
    given.promoted(watched, "cat", "dog", **REFERENCE)

    assert drift.look(watched).state == State.TOO_FEW
    assert drift.look(watched).alarms == []
    with watched.db.read() as connection:
        assert alarms.standing(connection) is None

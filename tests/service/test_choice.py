"""Which answers are kept: the rate holds whatever the model says, and the strange ones win."""

from collections import Counter
from collections.abc import Iterable, Iterator

import numpy as np
import pytest

from service.choice import AT_A_TIME, RECENT, Choice, Recent
from toploss.answers import Answer, Guess
from toploss.captures import Why


def answer(margin: float, novelty: float | None) -> Answer:
    guesses = (("red", 0.5 + margin / 2), ("blue", 0.5 - margin / 2))
    return Answer(
        guesses=tuple(Guess(label=label, confidence=share) for label, share in guesses),
        novelty=novelty,
        uncertain=False,
    )


def traffic(number: int, seed: int = 0) -> Iterator[Answer]:
    """Of a confident model: margins near 1, novelties near 0."""
    random = np.random.default_rng(seed)
    for _ in range(number):
        yield answer(random.beta(20, 1), random.exponential(0.01))


def kept(choice: Choice, answers: Iterable[Answer], version: str = "v1") -> list[Why | None]:
    return [choice.of(one, version) for one in answers]


@pytest.fixture(autouse=True)
def _same_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    import random

    dice = random.Random(0)
    monkeypatch.setattr("service.choice.random.random", dice.random)


@pytest.mark.parametrize("rate", [0.02, 0.2, 0.6])
def test_the_rate_holds_and_a_quarter_of_it_is_chance(rate: float) -> None:
    number = 8000
    counts = Counter(kept(Choice(rate), traffic(number)))
    assert counts[Why.RANDOM] / number == pytest.approx(rate / 4, rel=0.2)
    chosen = counts[Why.MARGIN] + counts[Why.NOVELTY]
    assert chosen / number == pytest.approx(0.75 * rate, rel=0.15)
    assert counts[Why.MARGIN] == pytest.approx(counts[Why.NOVELTY], rel=0.25)


def test_the_rate_holds_from_the_first_answer_on() -> None:
    runs = [kept(Choice(0.2), traffic(50, seed)) for seed in range(200)]
    assert sum(why is not None for run in runs for why in run) / 10_000 == pytest.approx(
        0.2, rel=0.1
    )


def test_everything_is_kept_where_that_is_the_rate() -> None:
    assert None not in kept(Choice(1.0), traffic(500))
    assert None not in kept(Choice(1.0), [answer(1.0, None)] * 500)


def test_what_the_model_was_least_sure_of_is_kept() -> None:
    choice = Choice(0.1)
    kept(choice, traffic(3000))
    unsure, strange = answer(0.01, 0.01), answer(0.95, 1.5)
    found = kept(choice, [unsure, *traffic(30, 1), strange])
    assert {found[0], found[-1]} <= {Why.MARGIN, Why.NOVELTY, Why.RANDOM}
    assert Why.MARGIN in (found[0], choice.of(answer(0.005, 0.01), "v1"))


@pytest.mark.parametrize("novelty", [None, 0.3])
def test_answers_that_are_all_alike_are_kept_at_the_rate(novelty: float | None) -> None:
    found = kept(Choice(0.2), [answer(1.0, novelty)] * 5000)
    assert sum(why is not None for why in found) / 5000 == pytest.approx(0.2, rel=0.15)


def test_a_flood_of_strange_images_is_no_way_around_the_rate() -> None:
    choice = Choice(0.1)
    kept(choice, traffic(3000))
    flood = [answer(0.9 - n / 3000, 0.01 + n / 3000) for n in range(2000)]  # each stranger yet
    number = sum(why is not None for why in kept(choice, flood))
    assert number <= 0.1 * 2000 + AT_A_TIME + 0.1 / 4 * 2000  # chance goes on all the while
    assert number >= 0.05 * 2000


def test_another_version_s_margins_are_not_compared() -> None:
    choice = Choice(0.2)
    kept(choice, traffic(3000))
    unsure = [answer(m, None) for m in np.random.default_rng(1).uniform(0, 0.1, 3000)]
    found = kept(choice, unsure, "v2")
    assert sum(why is not None for why in found) / 3000 == pytest.approx(0.2, rel=0.15)


def test_only_the_last_answers_count() -> None:
    recent = Recent()
    for value in range(RECENT):
        recent.rank(value)
    for value in range(RECENT):
        recent.rank(-1 - value)
    assert recent.rank(0.5) > 0.999
    assert recent.rank(-RECENT - 0.5) < 0.001

import numpy as np
import pytest

from toploss import orders

PROBABILITIES = np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.6, 0.3, 0.1]], np.float32)
LABELS = np.array([0, 1, 1])


def many(seed=0, n=200, classes=4):
    chance = np.random.default_rng(seed)
    probabilities = chance.dirichlet(np.ones(classes), n).astype(np.float32)
    return probabilities, chance.integers(0, classes, n)


def test_loss_is_cross_entropy_in_nats():
    assert orders.loss(PROBABILITIES, LABELS) == pytest.approx(-np.log([0.7, 0.8, 0.3]))


def test_a_probability_of_nothing_or_more_than_all_has_a_finite_loss():
    probabilities = np.array([[0.0, 1.0], [1.0000001, 0.0]], np.float32)

    found = orders.loss(probabilities, np.array([0, 0]))

    assert found == pytest.approx([87.33654, 0.0])


def test_margin_subtracts_the_threshold_of_each_class():
    # Thresholds: .7 (of the first alone), (.8 + .3) / 2 = .55, and 1 for the class without samples.
    found = orders.margin(PROBABILITIES, LABELS)

    assert found == pytest.approx(
        [
            (0.2 - 0.55) - (0.7 - 0.7),
            (0.1 - 0.7) - (0.8 - 0.55),
            (0.6 - 0.7) - (0.3 - 0.55),
        ]
    )


def test_a_class_that_the_model_is_shy_of_is_not_suspected_as_a_whole():
    """Of the second class the model never gives more than .4: that alone says nothing."""
    probabilities = np.array([[0.9, 0.1], [0.6, 0.4], [0.6, 0.4], [0.95, 0.05]], np.float32)
    labels = np.array([0, 1, 1, 1])

    assert orders.loss(probabilities, labels)[1] > orders.loss(probabilities, labels)[0]
    by_margin = orders.ranked(orders.margin(probabilities, labels)).tolist()
    assert by_margin[0] == 3
    assert orders.margin(probabilities, labels)[1] < orders.margin(probabilities, labels)[0]


def test_classes_without_samples_and_a_single_class_are_finite():
    probabilities, _ = many()
    labels = np.zeros(len(probabilities), int)

    for order in (orders.loss, orders.margin, orders.confident_wrong):
        assert np.isfinite(order(probabilities, labels)).all()
        assert np.isfinite(order(np.ones((2, 1), np.float32), np.zeros(2, int))).all()


def test_combined_is_the_mean_rank_and_equals_share_theirs():
    found = orders.combined(np.array([1.0, 1.0, 5.0, 0.0]), np.array([10.0, 30.0, 20.0, 0.0]))

    # Ranks 2.5 2.5 4 1 and 2 4 3 1, over 4.
    assert found == pytest.approx([4.5 / 8, 6.5 / 8, 7 / 8, 2 / 8])


@pytest.mark.parametrize("sure", [0.0, 0.9])
def test_a_scale_ranks_as_the_pool_does_also_among_equals(sure):
    """Nine of ten may be as sure as float32 allows, and so share a rank."""
    probabilities, labels = many(n=2000)
    saturated = np.random.default_rng(1).random(2000) < sure
    probabilities[saturated] = np.eye(4, dtype=np.float32)[labels[saturated]]
    loss, margin = orders.loss(probabilities, labels), orders.margin(probabilities, labels)

    scale = orders.Scale.of(probabilities, labels)

    assert scale.combined(loss, margin) == pytest.approx(orders.combined(loss, margin), abs=0.003)


def test_confident_wrong_puts_the_surest_disagreement_first_and_the_surest_agreement_last():
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.5, 0.5]], np.float32)

    found = orders.confident_wrong(probabilities, np.array([0, 0, 1, 1]))

    assert found == pytest.approx([-0.9, 0.8, 0.6, -0.5])


def test_neighbours_vote_by_nearness():
    known = np.array([[1, 0], [0.8, 0.6], [-1, 0], [0, -1]], np.float32) - np.float32(0.0)
    known -= known.mean(axis=0)  # so that the cosines are those of the vectors themselves
    labels = np.array([0, 1, 2, 2])

    votes = orders.nearest(known[:1], known, number=2).votes(labels, 3)

    near = float(known[0] @ known[1] / np.linalg.norm(known[0]) / np.linalg.norm(known[1]))
    assert votes == pytest.approx(np.array([[1, near, 0]]) / (1 + near), abs=1e-6)
    assert orders.neighbours(votes, np.array([1])) == pytest.approx([1 / (1 + near)], abs=1e-6)


def test_votes_sum_to_one_also_with_few_or_equal_neighbours():
    equal = np.ones((3, 5), np.float32)

    votes = orders.nearest(equal, equal).votes(np.array([0, 0, 1]), 2)

    assert votes == pytest.approx(np.array([[2 / 3, 1 / 3]] * 3))


def test_votes_do_not_depend_on_how_many_are_asked_about():
    chance = np.random.default_rng(0)
    known, labels = chance.normal(size=(50, 8)).astype(np.float32), chance.integers(0, 3, 50)
    asked = chance.normal(size=(1500, 8)).astype(np.float32)

    together = orders.nearest(asked, known).votes(labels, 3)

    assert together[-3:] == pytest.approx(
        orders.nearest(asked[-3:], known).votes(labels, 3), abs=1e-5
    )


def test_ranked_is_stable():
    scores = np.tile([1.0, 3.0], 50)

    assert orders.ranked(scores).tolist() == [*range(1, 100, 2), *range(0, 100, 2)]


@pytest.mark.parametrize("seed", range(3))
def test_orders_are_those_of_cleanlab(seed):
    rank = pytest.importorskip("cleanlab.rank", reason="cleanlab is not installed")
    probabilities, labels = many(seed)

    confidence = rank.get_label_quality_scores(labels, probabilities, method="self_confidence")
    margin = rank.get_label_quality_scores(
        labels, probabilities, method="normalized_margin", adjust_pred_probs=True
    )

    assert np.array_equal(
        orders.ranked(orders.loss(probabilities, labels)), orders.ranked(-confidence)
    )
    ours = orders.margin(probabilities, labels)
    assert np.corrcoef(ours, -margin)[0, 1] == pytest.approx(1, abs=1e-6)

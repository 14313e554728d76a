"""What the gate says of pairs of models whose difference is known: simulated, as often as it takes.

Each image is answered by both models at once: the candidate alone is right, production alone is, or
neither alone; the two rates make the discordance and the true difference. Near-duplicates are drawn
in groups whose images share one answer with a given chance.
"""

from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import beta, norm

from bench.common import main, options
from training.gate import Rules
from training.paired import SURE, Paired

MARGIN = Rules().margin
HOLDOUTS = (200, 1000, 5000)
DISCORDANCES = (0.05, 0.10, 0.15)
# Points of accuracy; at the margin's edge a worse candidate is hardest to tell.
DIFFERENCES = (-0.05, -0.03, -0.025, -0.02, -0.01, 0.0, 0.01, 0.02, 0.05)
# The standard error at 5 %: 0.05 points; 0.12 with groups, and 0.2 of the rest.
TRIALS, GROUPED_TRIALS, FURTHER_TRIALS = 200_000, 30_000, 10_000
AT_ONCE = 4_000_000  # images of a portion

Counts = npt.NDArray[np.int64]

# Layouts of near-duplicates: groups that hold a fifth of the images, or all of them in fours or in
# tens, or a fifth and beside them one group of a twentieth. Images of a group are answered as one
# in half of the cases, or nearly always.
LAYOUTS = ("a fifth, in 2 to 6", "all, in 4", "all, in 10", "a fifth, and one of 5 %")
ALIKE = (0.5, 0.95)


def measure(quick: bool) -> dict[str, Any]:
    # With fewer trials the highest of so many rows would be chance's.
    rows = list(_alone(TRIALS))
    _print(rows)
    grouped = list(_grouped(GROUPED_TRIALS))
    _print(grouped)
    further = FURTHER_TRIALS // (10 if quick else 1)
    methods = list(_methods(further))
    _print(methods)
    classes = list(_classes(further))
    _print(classes)
    worse = [row for row in rows + grouped if row["difference"] <= -MARGIN]
    return {
        "margin": MARGIN,
        "promoted_when_worse": max(row["promote"] for row in worse),
        "promoted_when_worse_grouped": max(row["promote"] for row in grouped),
        "rows": rows,
        "grouped": grouped,
        "methods": methods,
        "classes": classes,
    }


def _alone(trials: int) -> Iterator[dict[str, Any]]:
    """Every image by itself."""
    for discordance, holdout, difference in product(DISCORDANCES, HOLDOUTS, DIFFERENCES):
        chance = np.random.default_rng(0)
        rates = _rates(discordance, difference)
        gained, lost, _ = chance.multinomial(holdout, rates, trials).T
        told = Paired(samples=holdout, gained=gained, lost=lost)
        yield _row(told, difference, holdout, discordance)


def _grouped(trials: int) -> Iterator[dict[str, Any]]:
    """Of a candidate at the margin's edge, where the gate is wrong most."""
    for layout, alike in product(LAYOUTS, ALIKE):
        for discordance, holdout in product(DISCORDANCES, HOLDOUTS):
            chance = np.random.default_rng(0)
            sizes = _sizes(layout, holdout, chance)
            rates = _rates(discordance, -MARGIN)
            portions = [
                _drawn(sizes, alike, rates, portion, chance)
                for portion in _portions(trials, int(sizes[sizes > 1].sum()))
            ]
            gained, lost, squares, crossed = np.concatenate(portions, axis=1)
            pair = Paired.grouped(gained, lost, squares, crossed, sizes)
            blind = Paired(samples=holdout, gained=gained, lost=lost)
            yield {
                "layout": layout,
                "alike": alike,
                **_row(pair, -MARGIN, holdout, discordance),
                "promote_blind_to_groups": _share(blind.above(-MARGIN) < 1 - SURE),
            }


def _rates(discordance: float, difference: float) -> tuple[float, float, float]:
    """Of images that the candidate alone has right, that production alone has, and the rest. Models
    cannot be further apart than they differ."""
    apart = max(discordance, abs(difference))
    return (apart + difference) / 2, (apart - difference) / 2, 1 - apart


def _row(pair: Paired, difference: float, holdout: int, discordance: float) -> dict[str, Any]:
    """Shares of the three verdicts, and of those that are promoted under each setting for the
    third."""
    promote = pair.above(-MARGIN) < 1 - SURE
    reject = ~promote & (pair.below(-MARGIN) < 1 - SURE)
    doubt = ~promote & ~reject
    return {
        "difference": difference,
        "holdout": holdout,
        "discordance": discordance,
        "promote": _share(promote),
        "reject": _share(reject),
        "cannot_tell": _share(doubt),
        "promoted_hold": _share(promote),
        "promoted_better": _share(promote | (doubt & (pair.difference >= 0))),
        "promoted_promote": _share(promote | doubt),
    }


def _share(flags: npt.NDArray[np.bool_]) -> float:
    return round(float(flags.mean()), 4)


def _sizes(layout: str, holdout: int, chance: np.random.Generator) -> Counts:
    if layout == "all, in 4":
        return np.full(holdout // 4, 4)
    if layout == "all, in 10":
        return np.full(holdout // 10, 10)
    one = [holdout // 20] if layout.endswith("5 %") else []
    some: list[int] = []
    while sum(some) < holdout // 5:
        some.append(int(chance.integers(2, 7)))
    return np.array([*one, *some, *[1] * (holdout - sum(one) - sum(some))])


def _portions(trials: int, images: int) -> list[int]:
    most = max(1, AT_ONCE // images)
    return [min(most, trials - done) for done in range(0, trials, most)]


def _drawn(
    sizes: Counts,
    alike: float,
    rates: tuple[float, float, float],
    trials: int,
    chance: np.random.Generator,
) -> Counts:
    """Gained, lost, and of the groups' sums the squares and the products with the sizes, (4,
    trials). Images by themselves are drawn by their number alone."""

    def answers(number: int) -> npt.NDArray[np.int8]:
        drawn = chance.random((trials, number), np.float32)
        return (drawn < rates[0]).astype(np.int8) - (drawn > 1 - rates[1])

    several = sizes[sizes > 1]
    first = np.concatenate([[0], np.cumsum(several)[:-1]])
    group = np.repeat(np.arange(len(several)), several)
    shared = chance.random((trials, len(group)), np.float32) < alike
    apart = np.where(shared, answers(len(several))[:, group], answers(len(group)))
    sums = np.add.reduceat(apart, first, axis=1, dtype=np.int32)
    gained, lost, _ = chance.multinomial(int((sizes == 1).sum()), rates, trials).T
    squares, crossed = (sums**2).sum(1) + gained + lost, sums @ several + gained - lost
    return np.stack([(apart > 0).sum(1) + gained, (apart < 0).sum(1) + lost, squares, crossed])


def _classes(trials: int) -> Iterator[dict[str, Any]]:
    """How often the guard rejects, when one class of several has fallen, or none: the others are as
    good as they were, and a tenth of each class's images are answered otherwise."""
    margin = Rules().class_margin
    for number, each, fall in product((10, 100), (20, 50, 100, 500), (0.0, margin, 0.2, 0.4)):
        chance = np.random.default_rng(2)
        fell = chance.multinomial(each, _rates(0.1, -fall), (trials, 1))
        same = chance.multinomial(each, _rates(0.1, 0.0), (trials, number - 1))
        counts = np.concatenate([fell, same], axis=1)
        pairs = Paired(samples=each, gained=counts[..., 0], lost=counts[..., 1])
        # Holm's first step decides whether any falls.
        least = pairs.below(-margin).min(axis=1)
        yield {
            "classes": number,
            "samples of each": each,
            "one fell by": fall,
            "rejected": _share(least < (1 - SURE) / number),
        }


def _methods(trials: int) -> Iterator[dict[str, Any]]:
    """How often other methods promote a candidate at the margin's edge, and one that is as good."""
    for discordance, holdout, difference in product(DISCORDANCES, HOLDOUTS, (-MARGIN, 0.0)):
        chance = np.random.default_rng(1)
        gained, lost, _ = chance.multinomial(holdout, _rates(discordance, difference), trials).T
        ours = Paired(samples=holdout, gained=gained, lost=lost)
        yield {
            "difference": difference,
            "holdout": holdout,
            "discordance": discordance,
            "Tango, corrected": _share(ours.above(-MARGIN) < 1 - SURE),
            "Tango": _share(norm.sf(ours._score(-MARGIN) + _half(ours)) < 1 - SURE),
            "Wald": _share(_wald(gained, lost, holdout) > -MARGIN),
            "Bonett and Price": _share(_wald(gained + 1, lost + 1, holdout + 2) > -MARGIN),
            "Bonferroni of exact": _share(_exact(gained, lost, holdout) > -MARGIN),
            "bootstrap, percentile": _share(_bootstrap(gained, lost, holdout, chance) > -MARGIN),
        }


def _half(pair: Paired) -> Any:
    """What the correction takes from the score."""
    return 0.5 / np.sqrt(pair.samples * pair._variance(-MARGIN))


def _wald(gained: Any, lost: Any, size: int) -> Any:
    mean = (gained - lost) / size
    return mean - norm.ppf(SURE) * np.sqrt(((gained + lost) / size - mean**2) / size)


def _exact(gained: Any, lost: Any, size: int) -> Any:
    """Clopper and Pearson's bound of either rate, at half the error each."""
    half = (1 - SURE) / 2
    low = np.where(gained > 0, beta.ppf(half, np.maximum(gained, 1), size - gained + 1), 0.0)
    return low - beta.ppf(1 - half, lost + 1, np.maximum(size - lost, 1))


def _bootstrap(gained: Any, lost: Any, size: int, chance: np.random.Generator) -> Any:
    """The percentile bootstrap's bound, once for each pair of counts: images drawn anew."""
    pairs, which = np.unique(np.stack([gained, lost], axis=1), axis=0, return_inverse=True)
    bounds = []
    for won, left in pairs.tolist():
        drawn = chance.multinomial(size, (won / size, left / size, 1 - (won + left) / size), 1000)
        bounds.append(np.quantile((drawn[:, 0] - drawn[:, 1]) / size, 1 - SURE))
    return np.array(bounds)[which.ravel()]


def _print(rows: list[dict[str, Any]]) -> None:
    print("\n" + " | ".join(rows[0]))
    for row in rows:
        print(
            " | ".join(
                f"{value:g}" if isinstance(value, float) else str(value) for value in row.values()
            )
        )


if __name__ == "__main__":
    main(
        options("gate", "a tenth of the trials of methods and classes"),
        lambda args: measure(args.quick),
    )

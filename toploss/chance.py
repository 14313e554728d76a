"""How often chance alone brings as many cases as were seen."""

from math import exp, lgamma, log

NEGLIGIBLE = 1e-17  # of the sum: a term that adds nothing any more


def more_than_before(hits: int, n: int, hits_before: int, n_before: int) -> float:
    """The chance of at least `hits` of `n`, if their share is that of before: Fisher's exact test,
    one-sided. 1 where the share is no larger than it was.

    Both samples count as drawn, so that a handful of before says as little as it knows.
    """
    if hits * n_before <= hits_before * n:
        return 1.0
    whole, marked = n + n_before, hits + hits_before
    first = exp(_choose(marked, hits) + _choose(whole - marked, n - hits) - _choose(whole, n))
    total, term, k = first, first, hits
    while k < min(marked, n) and term > NEGLIGIBLE * total:
        rest = whole - marked - n + k + 1  # of the unmarked, that fell to before
        term *= (marked - k) * (n - k) / ((k + 1) * rest)
        total, k = total + term, k + 1
    return min(1.0, total)


def more_than(hits: int, n: int, share: float) -> float:
    """The chance of at least `hits` of `n`, if each is one with probability `share` (0 to 1, both
    excluded): the binomial's upper tail. 1 where there are no more than that."""
    if hits <= share * n:
        return 1.0
    total = term = exp(_choose(n, hits) + hits * log(share) + (n - hits) * log(1 - share))
    for k in range(hits, n):
        term *= (n - k) / (k + 1) * share / (1 - share)
        total += term
        if term <= NEGLIGIBLE * total:
            break
    return min(1.0, total)


def _choose(n: int, k: int) -> float:
    """The logarithm of n over k."""
    return lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1)

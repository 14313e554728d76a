"""How sure a share is."""

from math import sqrt

Interval = tuple[float, float]


def wilson(hits: int, n: int, z: float = 1.96) -> Interval:
    """Bounds of a share that was seen as `hits` of `n`: the score interval, 0 to 1.

    Good for few samples and for shares at 0 and 1, where the textbook's is not. (Wilson,
    "Probable Inference, the Law of Succession, and Statistical Inference", 1927.)

    Args:
        z: standard deviations of the normal; 1.96 is 95 % on both sides.

    Returns:
        (0, 1) for no samples at all: nothing is known.
    """
    if n == 0:
        return 0.0, 1.0
    share, squared = hits / n, z * z / n
    middle = (share + squared / 2) / (1 + squared)
    half = z * sqrt(share * (1 - share) / n + squared / (4 * n)) / (1 + squared)
    return max(0.0, middle - half), min(1.0, middle + half)

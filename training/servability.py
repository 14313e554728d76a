"""Whether a candidate can be served: it loads on the engine that serves here, agrees with training,
and is not much slower than production."""

from collections.abc import Callable
from dataclasses import dataclass

from threadpoolctl import threadpool_limits

from toploss import loading
from toploss.artifact import Loaded
from toploss.engine import Engine
from toploss.errors import Broken
from toploss.settings import Settings

TURNS = 4  # each, of loading.TURN_S seconds
ROUNDS = 4  # of them, before a candidate is called too slow


@dataclass(frozen=True, kw_only=True)
class Servability:
    """The gate's second key."""

    fits: bool
    words: str
    engine: str | None  # that the candidate would answer with here; none: it does not load
    images_per_s: float | None = None  # the candidate's, every lane busy
    production_images_per_s: float | None = None
    slower: float | None = None  # times that production is as fast; none: nothing to compare with
    limit: float  # of `slower`


def look(settings: Settings, candidate: Loaded, production: Loaded | None) -> Servability:
    """Load the candidate as a server of these settings does, and measure it beside production in
    turns, on this machine.

    Raises:
        Broken: production itself does not load.
    """
    limit = settings.gate_slowdown
    # `loading.load` keeps NumPy's algebra to one thread, which a training wants back.
    with threadpool_limits(settings.thread_count, user_api="blas"):
        try:
            ours = _loaded(settings, candidate)
        except Broken as exc:
            return Servability(fits=False, words=str(exc), engine=None, limit=limit)
        if production is None:
            words = f"it loads on {ours.told} and agrees with training"
            return Servability(fits=True, words=words, engine=ours.told, limit=limit)
        theirs = _loaded(settings, production)
        return compared(
            ours.told,
            lambda: loading.images_per_s(ours, candidate),
            lambda: loading.images_per_s(theirs, production),
            limit=limit,
        )


def compared(
    engine: str, ours: Callable[[], float], theirs: Callable[[], float], *, limit: float
) -> Servability:
    """By the best of several turns each: whatever else the machine does, it does not do always.
    One that seems too slow gets more turns, for noise alone makes no image faster.

    Args:
        ours, theirs: a turn of candidate and of production: images a second.
    """
    best = [0.0, 0.0]
    for turn in range(TURNS * ROUNDS):
        if turn % TURNS == 0 and turn and best[1] <= limit * best[0]:
            break
        best = [max(best[0], ours()), max(best[1], theirs())]
    slower = best[1] / best[0]
    fits = slower <= limit
    return Servability(
        fits=fits,
        words=(
            f"it computes {best[0]:,.0f} images/s on {engine}, production {best[1]:,.0f}: "
            + (f"{slower:.2f} times as slow, " if slower > 1 else "not slower, ")
            + f"{'within' if fits else 'beyond'} the limit of {limit:g}"
        ),
        engine=engine,
        images_per_s=best[0],
        production_images_per_s=best[1],
        slower=slower,
        limit=limit,
    )


def _loaded(settings: Settings, version: Loaded) -> Engine:
    return loading.load(
        version, engine=settings.engine, device=settings.device, threads=settings.thread_count
    )

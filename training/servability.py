"""Whether a candidate can be served: it loads on the engine that serves here, agrees with training,
and is not much slower than production."""

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

from threadpoolctl import threadpool_limits

from toploss import loading
from toploss.artifact import Loaded
from toploss.engine import Engine
from toploss.errors import Broken
from toploss.settings import Settings

TURNS = 4  # each, of loading.TURN_S seconds
ROUNDS = 4  # of them, before a candidate is called too slow

Turn = tuple[float, float]  # images a second, of candidate and production
Summary = Callable[[list[float]], float]


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
    One that seems too slow gets more turns, for noise alone makes no image faster; and it is too
    slow only if it is in most of the turns too, for production may have had luck in one.

    Args:
        ours, theirs: a turn of candidate and of production: images a second.
    """
    turns: list[tuple[float, float]] = []
    for turn in range(TURNS * ROUNDS):
        if turn % TURNS == 0 and turn and _slower(turns) <= limit:
            break
        turns.append((ours(), theirs()))
    typical = _slower(turns) > limit and _slower(turns, median) <= limit
    rate, production = _rates(turns, median if typical else max)
    slower = production / rate
    fits = slower <= limit
    return Servability(
        fits=fits,
        words=(
            f"it computes {rate:,.0f} images/s on {engine}, production {production:,.0f}: "
            + (f"{slower:.2f} times as slow, " if slower > 1 else "not slower, ")
            + f"{'within' if fits else 'beyond'} the limit of {limit:g}"
        ),
        engine=engine,
        images_per_s=rate,
        production_images_per_s=production,
        slower=slower,
        limit=limit,
    )


def _rates(turns: list[Turn], of: Summary) -> Turn:
    return of([rate for rate, _ in turns]), of([rate for _, rate in turns])


def _slower(turns: list[Turn], of: Summary = max) -> float:
    """Times that production is as fast."""
    rate, production = _rates(turns, of)
    return production / rate


def _loaded(settings: Settings, version: Loaded) -> Engine:
    return loading.load(
        version, engine=settings.engine, device=settings.device, threads=settings.thread_count
    )

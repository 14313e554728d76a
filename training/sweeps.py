"""`toploss lr-find`: the sweep alone, as a picture and in words."""

from pathlib import Path

from toploss import snapshots
from toploss.home import Home
from toploss.plan import Plan
from training import lesson
from training.data import Pictures, preprocessing
from training.finder import Finder
from training.follower import Follower


def sweep(home: Home, plan: Plan, stage: int, follower: Follower) -> Finder:
    """Find the rate on today's data; nothing is kept but their snapshot.

    Raises:
        BadData, BadInput: they cannot be trained on, or not with these settings.
    """
    plan = plan.stored(home)
    lesson.check(home, plan)
    snapshot = snapshots.freeze(home)
    pictures = Pictures(home, preprocessing(plan))
    threads = home.settings.thread_count
    pictures.warm(snapshot.rows, threads, lambda _: None)
    return lesson.sweep(
        home,
        lesson.material(pictures, snapshot),
        plan,
        stage,
        follower,
        threads=threads,
    )


def draw(finder: Finder, path: Path) -> None:
    """The curve with what was suggested and what was chosen, as PNG. Raises OSError."""
    # Not pyplot: it keeps figures, and asks for a screen.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), dpi=150, layout="constrained")
    axes = figure.subplots()
    axes.plot(finder.rates, finder.losses, color="#2456a6")
    for name, rate in finder.suggestions.items():
        axes.axvline(rate, color="#8a939c", linestyle=":")
        axes.annotate(
            name,
            (rate, 1),
            xycoords=("data", "axes fraction"),
            xytext=(3, -3),
            textcoords="offset points",
            rotation=90,
            va="top",
            color="#59636e",
        )
    axes.axvline(finder.chosen, color="#b3261e", label=f"chosen: {finder.chosen:.1e}")
    axes.set_xscale("log")
    axes.set_ylim(top=1.5 * max(finder.losses[0], min(finder.losses)))
    axes.set_xlabel("learning rate")
    axes.set_ylabel("loss (nats, smoothed)")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="upper left")
    figure.savefig(path)

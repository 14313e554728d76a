"""The recipe from Python: what `toploss train` does."""

from collections.abc import Callable

from toploss import runs
from toploss.home import Home
from toploss.plan import Plan
from toploss.processes import identity
from training.run import Result, execute


def fit(
    *,
    home: Home | None = None,
    promote: bool = True,
    actor: str = "local",
    watch: Callable[[str, float], None] = lambda *_: None,
    **settings: object,
) -> Result:
    """One run in this process: freeze the data, train by both stages, publish, ask the gate.

    Args:
        home: else that of the environment.
        promote: move the production alias when the gate agrees.
        watch: hears the stage and how much of it is done, 0 to 1.
        settings: any of `Plan`'s fields (arch, weights, size, batch_size, epochs_head,
            epochs_all, lr, seed, flip), over the defaults of the settings.

    Raises:
        Refused: a run is active. BadData, BadInput: the data or the settings cannot be trained
        with; the run is kept as failed, with the reason.
    """
    home = home or Home.open()
    plan = Plan.from_settings(home.settings).but(**settings).stored(home)
    lease = runs.start(home, plan, owner=identity(), actor=actor, promote=promote)
    return execute(home, lease, watch=watch)

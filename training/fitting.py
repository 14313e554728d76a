"""The recipe from Python: what `toploss train` does."""

from collections.abc import Callable
from dataclasses import replace

from toploss import records, runs
from toploss.errors import NotFound
from toploss.home import Home
from toploss.plan import Plan
from toploss.processes import identity
from training import checkpoints, memory
from training.finder import FALLBACK_RATE
from training.run import Result, execute
from training.trained import STAGE_ONE


def fit(
    *,
    home: Home | None = None,
    start: str | None = None,
    promote: bool = True,
    actor: str = "local",
    watch: Callable[[str, float], None] = lambda *_: None,
    **settings: object,
) -> Result:
    """One run in this process: freeze the data, train by both stages, publish, ask the gate.

    Args:
        home: else that of the environment.
        start: go on from a stage of an earlier run, `RUN/stage-1`: with its settings, but where
            others are given, and without stage one.
        promote: move the production alias when the gate agrees.
        watch: hears the stage and how much of it is done, 0 to 1.
        settings: any of `Plan`'s fields (arch, weights, size, batch_size, epochs_head,
            epochs_all, lr, seed, flip, balance, cache, folds, full_folds), over the defaults of
            the settings.

    Raises:
        Refused: a run is active. BadData, BadInput: the data or the settings cannot be trained
        with; the run is kept as failed, with the reason.
    """
    home = home or Home.open()
    memory.keep_freed()
    plan = Plan.from_settings(home.settings) if start is None else _from_stage(home, start)
    plan = plan.but(**settings).stored(home)
    if settings.get("epochs_head") is not None:
        plan = replace(plan, onward=False)  # more of stage one is what was asked for
    lease = runs.start(home, plan, owner=identity(), actor=actor, promote=promote)
    return execute(home, lease, watch=watch)


def resume(
    run: str,
    *,
    home: Home | None = None,
    watch: Callable[[str, float], None] = lambda *_: None,
) -> Result:
    """Go on with a run that failed or was stopped, from its last checkpoint.

    What comes out is what the run would have come to, to the last bit.

    Raises:
        NotFound. Refused: it has its verdict, or a run is active.
    """
    home = home or Home.open()
    memory.keep_freed()
    lease = runs.start_again(home, run, owner=identity())
    return execute(home, lease, watch=watch)


def _from_stage(home: Home, start: str) -> Plan:
    """The settings of a run that goes on from `RUN/stage-1` or `RUN/stage-2`."""
    run_id, _, stage = start.partition("/")
    stage = stage or STAGE_ONE
    run = records.show(home, run_id)
    kept = checkpoints.path(run_id, stage)
    if not home.blobs.exists(kept):
        raise NotFound(
            f"run {run_id} has kept no {stage!r}; there are `stage-1` and `stage-2`, once it has "
            "come so far, for TOPLOSS_KEEP_CHECKPOINT_DAYS after its end"
        )
    plan = Plan.from_json(run["settings"])
    rate = plan.lr or (run["finder"] or {}).get("chosen") or FALLBACK_RATE
    return replace(plan, start=kept, warm=None, onward=True, lr=rate)

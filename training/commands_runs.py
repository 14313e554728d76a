"""Commands on trainings: now, queued, dispatched."""

import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer

from training.edge import REFUSED, Answer, command, table, when

top = typer.Typer()
runs = typer.Typer(no_args_is_help=True, help="Trainings.")
retraining = typer.Typer(no_args_is_help=True, help="The automatic policy.")

RunId = Annotated[str, typer.Argument(metavar="ID", help="A run of `toploss runs list`.")]


def add_to(app: typer.Typer) -> None:
    app.add_typer(top)
    app.add_typer(runs, name="runs")
    app.add_typer(retraining, name="retraining")


def _default(name: str) -> str:
    return f"Default: TOPLOSS_TRAIN_{name}."


@command(top, "train")
def train(
    arch: Annotated[
        str | None, typer.Option(help=f"torchvision's name. {_default('ARCH')[:-1]}, resnet34.")
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            metavar="default|none|FILE",
            help="ImageNet's, random (both stages then train all layers), or a file. "
            f"{_default('WEIGHTS')[:-1]}, default.",
        ),
    ] = None,
    size: Annotated[
        int | None,
        typer.Option(help=f"Side of the images in pixels. {_default('SIZE')[:-1]}, 224."),
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(help=f"Images in a step. {_default('BATCH_SIZE')[:-1]}, 64.")
    ] = None,
    epochs_head: Annotated[
        int | None, typer.Option(help=f"Epochs of stage one. {_default('EPOCHS_HEAD')[:-1]}, 4.")
    ] = None,
    epochs_all: Annotated[
        int | None, typer.Option(help=f"Epochs of stage two. {_default('EPOCHS_ALL')[:-1]}, 2.")
    ] = None,
    lr: Annotated[
        str | None,
        typer.Option(
            metavar="auto|X",
            help=f"The rate finder's, or stage one's peak. {_default('LR')[:-1]}, auto.",
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help=f"The training's seed. {_default('SEED')[:-1]}, 42.")
    ] = None,
    flip: Annotated[
        bool | None,
        typer.Option(
            "--flip/--no-flip", help=f"Mirror training images. {_default('FLIP')[:-1]}, yes."
        ),
    ] = None,
    no_promote: Annotated[
        bool, typer.Option("--no-promote", help="Publish and judge, but leave production.")
    ] = False,
) -> Answer:
    """Train once, here and now: freeze the data, two stages, publish, ask the gate."""
    from toploss.home import Home
    from training.fitting import fit

    home = Home.open()
    settings: dict[str, Any] = {
        "arch": arch,
        "weights": weights,
        "size": size,
        "batch_size": batch_size,
        "epochs_head": epochs_head,
        "epochs_all": epochs_all,
        "lr": _rate(lr),
        "seed": seed,
        "flip": flip,
    }
    result = fit(home=home, promote=not no_promote, watch=_bar(), **settings)
    if result.gate["promoted"] or no_promote:
        return Answer(vars(result), _told(result))
    complaint = (
        f"version {result.version} was {result.gate['outcome']}; "
        f"`toploss models promote {result.version}` promotes it all the same"
    )
    return Answer(vars(result), _told(result), REFUSED, complaint)


@command(top, "retrain")
def retrain(
    reason: Annotated[str, typer.Option(help="Why, for the record.")] = "asked for by hand",
    if_due: Annotated[bool, typer.Option("--if-due", help="Only if the policy says so.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Even if these data and settings have a verdict.")
    ] = False,
) -> Answer:
    """Ask for a run with the settings of production's run; returns at once with its id."""
    from toploss import policy, snapshots
    from toploss import runs as queue
    from toploss.errors import Refused
    from toploss.home import Home

    home = Home.open()
    if if_due:
        due = policy.due(home)
        if not due.due:
            raise Refused(f"nothing is due: {due.why}; ask without --if-due to retrain anyway")
        reason = f"{reason}: {due.why}"
    fingerprint = snapshots.freeze(home).fingerprint
    run = queue.enqueue(home, reason=reason, actor="local", force=force, fingerprint=fingerprint)
    return Answer({"id": run["id"], "state": run["state"]}, f"run {run['id']} is {run['state']}")


@command(top, "dispatch")
def dispatch(
    once: Annotated[
        bool, typer.Option("--once", help="Take the waiting run, see it to its end, and stop.")
    ] = False,
) -> Answer:
    """Run the dispatcher: take queued runs, launch them, watch them, settle them."""
    from toploss.home import Home
    from training.dispatcher import Dispatcher, until_stopped
    from training.launchers import SubprocessLauncher

    home = Home.open()
    dispatcher = Dispatcher(home, SubprocessLauncher(home))
    if once:
        dispatcher.run_once()
    else:
        until_stopped(dispatcher)
    return Answer({"stopped": True}, "")


@command(runs, "list")
def list_(
    limit: Annotated[int, typer.Option(min=1, help="How many, newest first.")] = 20,
) -> Answer:
    """Runs, newest first."""
    from toploss import runs as queue
    from toploss.home import Home

    found = queue.listed(Home.open(), limit=limit)
    rows = [
        [
            run["id"],
            run["state"],
            run["stage"] or "",
            when(run["created_at"]),
            run["version"] or "",
            run["metrics"]["test"]["accuracy"] if run["metrics"] else None,
            run["error"] or "; ".join(trigger["reason"] for trigger in run["reasons"]),
        ]
        for run in found
    ]
    head = ["run", "state", "stage", "asked for", "version", "test accuracy", "why"]
    return Answer({"runs": found}, table(head, rows))


@command(runs, "show")
def show(run: RunId) -> Answer:
    """One run: state, stage, losses, metrics, verdict."""
    import json

    from toploss import runs as queue
    from toploss.home import Home

    found = queue.show(Home.open(), run)
    return Answer(found, json.dumps({k: v for k, v in found.items() if k != "finder"}, indent=2))


@command(runs, "log")
def log(run: RunId) -> Answer:
    """A run's log, of all its attempts."""
    from toploss import runs as queue
    from toploss.home import Home

    text = queue.read_log(Home.open(), run)
    return Answer({"id": run, "log": text}, text.rstrip())


@command(runs, "cancel")
def cancel(run: RunId) -> Answer:
    """Stop a run: a waiting one at once, an active one within seconds."""
    from toploss import runs as queue
    from toploss.home import Home

    found = queue.cancel(Home.open(), run)
    state = "being cancelled" if found["cancel_asked"] else found["state"]
    return Answer({"id": run, "state": found["state"]}, f"run {run} is {state}")


@command(retraining, "status")
def status() -> Answer:
    """Whether a retraining is due, and why or why not."""
    from toploss import policy
    from toploss.home import Home

    due = policy.due(Home.open())
    return Answer(due.as_json(), f"{'due' if due.due else 'not due'}: {due.why}")


@command(retraining, "pause")
def pause(
    reason: Annotated[str, typer.Option(help="Why, for the record.")] = "paused by hand",
) -> Answer:
    """Start no run automatically until `toploss retraining resume`."""
    from toploss import policy
    from toploss.home import Home

    policy.pause(Home.open(), reason=reason, actor="local")
    return Answer({"paused": True, "reason": reason}, f"paused: {reason}")


@command(retraining, "resume")
def resume() -> Answer:
    """Let runs start automatically again."""
    from toploss import policy
    from toploss.home import Home

    policy.resume(Home.open(), actor="local")
    return Answer({"paused": False}, "runs start automatically again")


def _rate(text: str | None) -> float | str | None:
    if text is None or text == "auto":
        return text
    try:
        return float(text)
    except ValueError as exc:
        raise typer.BadParameter(
            f"{text!r} is neither a number nor auto; give one of them", param_hint="--lr"
        ) from exc


def _told(result: Any) -> str:
    valid, test = (result.metrics[split] for split in ("valid", "test"))
    return (
        f"run      {result.run}\n"
        f"version  {result.version}\n"
        f"valid    accuracy {valid['accuracy']:.4f}, loss {valid['loss']:.4f}\n"
        f"test     accuracy {test['accuracy']:.4f}, loss {test['loss']:.4f}\n"
        f"gate     {result.gate['verdict']}: {result.gate['reason']}\n"
        f"         {result.gate['outcome']}"
    )


def _bar() -> Callable[[str, float], None]:
    """A bar per stage on standard error, and only on a terminal."""
    if not sys.stderr.isatty():
        return lambda *_: None
    from rich.console import Console
    from rich.progress import Progress

    bar = Progress(console=Console(stderr=True), transient=True)
    tasks: dict[str, Any] = {}

    def follow(stage: str, done: float) -> None:
        if stage not in tasks:
            for task in tasks.values():
                bar.remove_task(task)
            tasks.clear()
            tasks[stage] = bar.add_task(stage, total=1.0)
            bar.start()
        bar.update(tasks[stage], completed=done)
        if stage == "publish":
            bar.stop()

    return follow

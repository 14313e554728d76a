"""Commands on runs: asked for, dispatched, looked at, taken up again."""

import textwrap
from pathlib import Path
from typing import Annotated, Any

import typer

from training import telling
from training.edge import FAILED, Answer, command, table, when, write

top = typer.Typer()
runs = typer.Typer(no_args_is_help=True, help="Trainings: asked for, under way, done.")
retraining = typer.Typer(no_args_is_help=True, help="The automatic policy.")

WIDEST = 100  # characters of why a run is, in a list; `runs show` has all of it

RunId = Annotated[str, typer.Argument(metavar="ID", help="A run of `toploss runs list`.")]


def add_to(app: typer.Typer) -> None:
    app.add_typer(top)
    app.add_typer(runs, name="runs")
    app.add_typer(retraining, name="retraining")


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
    from toploss.triggers import Kind

    home = Home.open()
    if if_due:
        due = policy.due(home)
        if not due.due:
            raise Refused(f"nothing is due: {due.why}; ask without --if-due to retrain anyway")
        reason = f"{reason}: {due.why}"
    fingerprint = snapshots.freeze(home).fingerprint
    kind = Kind.SCHEDULE if if_due else Kind.COMMAND
    run = queue.enqueue(
        home, reason=reason, actor="local", kind=kind, force=force, fingerprint=fingerprint
    )
    text = f"run {run['id']} is {run['state']}; a dispatcher (`toploss dispatch`) launches it"
    return Answer({"id": run["id"], "state": run["state"]}, text)


@command(top, "dispatch")
def dispatch(
    once: Annotated[
        bool, typer.Option("--once", help="Take the waiting run, see it to its end, and stop.")
    ] = False,
) -> Answer:
    """Run the dispatcher: take queued runs, launch them, watch them, settle them."""
    from toploss.home import Home
    from training.dispatcher import Dispatcher, until_stopped
    from training.launchers import chosen
    from training.postman import Postman

    home = Home.open()
    dispatcher, postman = Dispatcher(home, chosen(home)), Postman(home)
    if once:
        run = dispatcher.run_once()
        while postman.step():
            pass
        text = "nothing is waiting" if run is None else f"run {run} has ended"
        return Answer({"stopped": True, "run": run}, text)
    with postman.beside():
        until_stopped(dispatcher)
    return Answer({"stopped": True}, "")


@command(runs, "list")
def list_(
    limit: Annotated[int, typer.Option(min=1, help="How many, newest first.")] = 20,
) -> Answer:
    """Runs, newest first."""
    from toploss import records
    from toploss.home import Home

    found = records.listed(Home.open(), limit=limit)
    rows = [
        [
            run["id"],
            run["state"],
            run["stage"] or "",
            when(run["created_at"]),
            run["version"] or "",
            run["metrics"]["test"]["accuracy"] if run["metrics"] else None,
            textwrap.shorten(_why(run), WIDEST, placeholder=" …"),
        ]
        for run in found
    ]
    head = ["run", "state", "stage", "asked for", "version", "test accuracy", "why"]
    return Answer({"runs": found}, table(head, rows))


def _why(run: dict[str, Any]) -> str:
    return str(run["error"] or "; ".join(trigger["reason"] for trigger in run["reasons"]))


@command(runs, "show")
def show(run: RunId) -> Answer:
    """One run: state, stage, losses, metrics, verdict."""
    from toploss import records
    from toploss.home import Home

    found = records.show(Home.open(), run)
    return Answer(found, telling.run(found))


@command(runs, "log")
def log(run: RunId) -> Answer:
    """A run's log, of all its attempts."""
    from toploss import records
    from toploss.home import Home

    text = records.read_log(Home.open(), run)
    return Answer({"id": run, "log": text}, text.rstrip())


@command(runs, "cancel")
def cancel(run: RunId) -> Answer:
    """Stop a run: a waiting one at once, an active one within seconds."""
    from toploss import runs as queue
    from toploss.home import Home

    found = queue.cancel(Home.open(), run)
    state = "being cancelled" if found["cancel_asked"] else found["state"]
    return Answer({"id": run, "state": found["state"]}, f"run {run} is {state}")


@command(runs, "resume")
def resume_run(run: RunId) -> Answer:
    """Go on with a run that failed or was stopped, from its last checkpoint, here and now."""
    from toploss.home import Home
    from training.commands_train import answered, assist_the_first, bar
    from training.fitting import resume

    home = Home.open()
    assist_the_first(home)
    return answered(resume(run, home=home, watch=bar()))


@command(runs, "replay")
def replay(run: RunId) -> Answer:
    """Train again from a run's snapshot and settings, and compare; nothing is kept."""
    from toploss.home import Home
    from training.commands_train import bar
    from training.replay import replay
    from training.watching import Watching

    found = replay(Home.open(), run, Watching(bar()))
    text = f"run {run}: {found.words}"
    return Answer(found.as_json(), text, 0 if found.equal else FAILED, text)


@command(runs, "report")
def report(
    run: RunId,
    out: Annotated[
        Path | None, typer.Option(help="Where to write it. Default: report-RUN.html, here.")
    ] = None,
) -> Answer:
    """Write a run's report, one HTML page, to a file."""
    from toploss import models, records
    from toploss.artifact import REPORT
    from toploss.errors import NotFound
    from toploss.home import Home

    home = Home.open()
    found = records.show(home, run)
    if found["version"] is None:
        raise NotFound(
            f"run {run} is {found['state']} and has no report: it has made no version; "
            "`toploss runs show` says what is known of it"
        )
    file = out or Path(f"report-{run}.html")
    version = models.get(home, found["version"])
    page = f"{version.path}/{REPORT}"
    if not home.blobs.exists(page):
        raise NotFound(f"run {run} has no report: it could not be made, and its log says why")
    write(file, home.blobs.get(page))
    return Answer({"id": run, "report": str(file)}, f"{file} is written; open it in a browser")


@command(retraining, "status")
def status() -> Answer:
    """Whether a retraining is due, and why or why not."""
    from toploss import policy
    from toploss.home import Home

    home = Home.open()
    due, pause = policy.due(home), policy.paused(home)
    told = f"{'due' if due.due else 'not due'}: {due.why}"
    if pause is not None:
        told += f"; by {pause.actor}, {when(pause.at)}; `toploss retraining resume` ends it"
    return Answer({**due.as_json(), "pause": pause and pause.as_json()}, told)


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

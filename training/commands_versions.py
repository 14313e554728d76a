"""Commands on versions, and predictions without a server."""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from training.edge import FAILED, Answer, command, table, when

top = typer.Typer()
models = typer.Typer(no_args_is_help=True, help="Versions, and the production alias.")

VersionName = Annotated[str, typer.Argument(metavar="VERSION", help="Its name, or `production`.")]


def add_to(app: typer.Typer) -> None:
    app.add_typer(models, name="models")
    app.add_typer(top)


@command(models, "list")
def list_() -> Answer:
    """Versions, newest first; the one that serves is marked."""
    from toploss import models as stored
    from toploss import servers, shadow, watch
    from toploss.home import Home

    home = Home.open()
    with home.db.read() as connection:
        alias, candidate = stored.standing(connection), shadow.candidate(connection)
        late = servers.behind(connection, alias.generation) if alias else []
    rows, data = [], []
    for version in stored.listed(home):
        serves = alias is not None and alias.version == version.name
        shadows = version.name == candidate
        data.append({**_card(version), "production": serves, "shadow": shadows})
        accuracy = version.manifest["metrics"]["test"]["accuracy"]
        arch, gate = version.manifest["architecture"], version.manifest["gate"]["verdict"]
        mark = f"production, generation {alias.generation}" if serves and alias else ""
        mark += ", an override of the gate" if serves and alias and alias.kind == "override" else ""
        mark = "shadow: scores beside production" if shadows else mark
        mark = f"pruned {when(version.pruned_at)}" if version.pruned_at else mark
        rows.append([version.name, when(version.created_at), arch, accuracy, gate, mark])
    head = ["version", "made", "architecture", "test accuracy", "gate", ""]
    watched = watch.look(home)
    lines = [table(head, rows), *([_watched(watched)] if watched else []), *map(servers.told, late)]
    told = {"versions": data, "watch": watched and watched.as_json()}
    return Answer(told | {"behind": [server.as_json() for server in late]}, "\n".join(lines))


def _watched(found: Any) -> str:
    return (
        f"under watch until {when(found.until)}: {found.answering} of {found.servers} servers "
        f"answer with it, {found.now.failed} of {found.now.asked} images failed, "
        f"{found.now.novel} novel; {found.why}"
    )


@command(models, "show")
def show(version: VersionName) -> Answer:
    """A version's manifest."""
    import json

    from toploss import models as stored
    from toploss.home import Home

    manifest = stored.get(Home.open(), version).manifest
    return Answer(manifest, json.dumps(manifest, indent=2))


@command(models, "lineage")
def lineage(version: VersionName) -> Answer:
    """What a version was made of, and what became of it: run, triggers, snapshot, the networks it
    began with, gate, moves of production."""
    from toploss import lineage as told
    from toploss.home import Home

    home = Home.open()
    found = told.of(home, version)
    change = told.change(home, found["version"])
    return Answer(found | {"change": change}, "\n".join(_lineage(found, change)))


def _lineage(found: dict[str, Any], change: dict[str, Any] | None) -> Iterator[str]:
    run, kept, gate = found["run"], found["snapshot"], found["gate"]
    yield f"version {found['version']}, published {when(found['published_at'])}"
    yield f"run {run['id']}: {run['state']}, began {when(run['started_at'] or run['created_at'])}"
    for one in found["triggers"]:
        yield f"  asked for by {one['actor']}, {when(one['at'])}: {one['reason']}"
    if kept:
        counts = (f"{sum(of.values())} {split}" for split, of in kept["counts"].items())
        gone = f"; {kept['erased']} of them erased since" if kept["erased"] else ""
        yield f"snapshot {kept['fingerprint'][:12]}: {', '.join(counts)}{gone}"
    if change:
        yield (
            f"  since version {change['version']}: {change['added']} came, {change['removed']} "
            f"went, {change['relabelled']} relabelled"
        )
    for one in found["began_with"]:
        name = f"version {one['version']}" if one["version"] else f"run {one['run']}"
        later = "" if one["of"] == run["id"] else f", by run {one['of']}"
        yield f"  began with {name} ({one['how']}{later})"
    if not found["began_with"]:
        yield "  began with no network of ours"
    settings = {key: said for key, said in (found["settings"] or {}).items() if said is not None}
    yield "settings: " + ", ".join(f"{key} {said}" for key, said in settings.items())
    made = {**(found["code"] or {}), **(found["libraries"] or {})}
    yield "made with " + ", ".join(f"{name} {number}" for name, number in made.items())
    if gate:
        yield f"gate: {gate['verdict']}: {gate['reason']}"
    for move in found["moves"]:
        at = f"{when(move['at'])} by {move['actor']}"
        where = f"{move['kind']} to production, generation {move['generation']}"
        yield f"{where}, {at}: {move['reason']}"
    if not found["moves"]:
        yield "never in production"


@command(models, "promote")
def promote(
    version: VersionName,
    reason: Annotated[
        str | None,
        typer.Option(help="Why, for the record; required for one that the gate did not agree to."),
    ] = None,
) -> Answer:
    """Point production at a version; servers follow by themselves.

    One that the gate refused, or could not tell about and held, takes a reason (exit code 3
    without) and is recorded as an override.
    """
    from toploss import models as stored
    from toploss.home import Home

    return _moved(stored.promote(Home.open(), version, reason=reason, actor="local"))


@command(models, "moves")
def moves(
    limit: Annotated[int, typer.Option(min=1, max=1000, help="The latest so many.")] = 20,
) -> Answer:
    """Where production stood, the latest first: who moved it, why, and whether against the gate."""
    from toploss import models as stored
    from toploss.home import Home

    found = stored.moves(Home.open(), limit=limit)
    rows = [
        [move.generation, move.version, when(move.at), move.kind, move.actor, move.reason]
        for move in found
    ]
    head = ["generation", "version", "at", "kind", "by", "why"]
    return Answer({"moves": [asdict(move) for move in found]}, table(head, rows))


@command(models, "rollback")
def rollback(
    to: Annotated[
        str | None, typer.Option(help="A version that served further back, not the one before.")
    ] = None,
    reason: Annotated[str, typer.Option(help="Why, for the record.")] = "by hand",
) -> Answer:
    """Return production to the version before, and pause the automatic policy."""
    from toploss import models as stored
    from toploss.home import Home

    alias = stored.rollback(Home.open(), reason=reason, actor="local", to=to)
    moved = _moved(alias)
    paused = "automatic retraining is paused; `toploss retraining resume` lets it go on"
    return Answer(moved.data, f"{moved.text}; {paused}")


@command(models, "prune")
def prune(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would go and what stays, and why.")
    ] = False,
    keep: Annotated[
        int | None, typer.Option(min=0, help="Newest versions that stay; else the setting's.")
    ] = None,
    days: Annotated[
        float | None, typer.Option(min=0, help="Days that any version stays; else the setting's.")
    ] = None,
    checkpoint_days: Annotated[
        float | None, typer.Option(min=0, help="Likewise, checkpoints after a run's end.")
    ] = None,
    log_days: Annotated[
        float | None, typer.Option(min=0, help="Likewise, logs after a run's end.")
    ] = None,
) -> Answer:
    """Remove the files of versions that nothing needs, old checkpoints and logs, leftovers, and
    given weights and snapshots that nothing names. Lineage stays."""
    from dataclasses import replace

    from toploss import retention
    from toploss.home import Home

    home = Home.open()
    asked = {
        "versions": keep,
        "days": days,
        "checkpoint_days": checkpoint_days,
        "log_days": log_days,
    }
    given: dict[str, Any] = {name: value for name, value in asked.items() if value is not None}
    rules = replace(retention.Rules.from_settings(home.settings), **given)
    found = (retention.look if dry_run else retention.prune)(home, rules)
    data = {
        "dry_run": dry_run,
        "bytes": sum(item.bytes for item in found.going),
        "going": [item.as_json() for item in found.going],
        "staying": [item.as_json() for item in found.staying],
    }
    text = f"{'would go' if dry_run else 'gone'}: {found.told()}"
    if dry_run:
        marked = [("goes", item) for item in found.going]
        marked += [("stays", item) for item in found.staying]
        rows = [[mark, i.kind.value, i.name, i.bytes, i.why] for mark, i in marked]
        text = table(["", "what", "of", "bytes", "why"], rows) + f"\n{text}"
    return Answer(data, text)


@command(models, "shadow")
def shadow(
    version: VersionName,
    end: Annotated[bool, typer.Option("--end", help="It scores no more.")] = False,
    reason: Annotated[str, typer.Option(help="Why, for the record.")] = "by hand",
) -> Answer:
    """Let a version score a share of the traffic beside production."""
    from toploss import shadow as shadows
    from toploss.home import Home

    home = Home.open()
    move = shadows.end if end else shadows.begin
    move(home, version, reason=reason, actor="local")
    said = "scores no more" if end else "scores beside production"
    return Answer({"version": version, "shadow": not end}, f"version {version} {said}")


@command(models, "agreement")
def agreement(version: VersionName) -> Answer:
    """How far a version agreed with production on what was sent."""
    from toploss import models as stored
    from toploss import shadow as shadows
    from toploss.home import Home

    home = Home.open()
    with home.db.read() as connection:
        name = stored.found(connection, version).name
        found = shadows.agreements(connection, name)
    data = {"version": name, "against": [one.as_json() for one in found]}
    if not found:
        return Answer(data, f"version {name} has scored nothing beside production yet")
    return Answer(data, "\n\n".join(map(_agreement, found)))


def _agreement(found: Any) -> str:
    rows = [[row.label, row.images, row.agreement] for row in found.classes]
    apart = [[row.live, row.candidate, row.images] for row in found.disagreements]
    head = f"{found.agreed} of {found.images} as {found.live} ({found.agreement:.4f})"
    told = [head, table([f"{found.live} said", "images", "agreed"], rows)]
    if apart:
        told.append(table(["it said", "this one said", "images"], apart))
    return "\n".join(told)


@command(models, "pull")
def pull(version: VersionName) -> Answer:
    """Put a version into BentoML's model store, where `bentoml build` finds it."""
    from toploss import bentostore
    from toploss import models as stored
    from toploss.home import Home

    home = Home.open()
    found = stored.get(home, version)
    loaded = bentostore.pull(home, found)
    tag = f"{home.settings.name}:{found.name}"
    return Answer({"tag": tag, "path": str(loaded.folder)}, f"{tag} in {loaded.folder}")


@command(top, "predict")
def predict(
    files: Annotated[list[Path], typer.Argument(metavar="FILE…", help="Image files.")],
) -> Answer:
    """Predict without a server, by the same engine."""
    import tempfile

    from toploss import artifact, loading
    from toploss import models as stored
    from toploss.answers import Reader
    from toploss.home import Home

    home = Home.open()
    version = stored.get(home, "production")
    with tempfile.TemporaryDirectory(prefix="toploss-") as scratch:
        loaded = artifact.fetch(home, version, Path(scratch))
        made = loading.load(
            loaded,
            engine=home.settings.engine,
            device=home.settings.device,
            threads=home.settings.thread_count,
            measure=False,
        )
        reader = Reader.of(loaded, uncertain_below=home.settings.uncertain_below)
        found = [_predicted(home, loaded, made, reader, file) for file in files]
    lines = [
        f"{entry['file']}: {entry['label']} ({entry['confidence']:.3f})"
        if "label" in entry
        else f"{entry['file']}: {entry['error']}"
        for entry in found
    ]
    data = {"model": version.name, "predictions": found}
    if any("label" in entry for entry in found):
        return Answer(data, "\n".join(lines))
    return Answer(data, "\n".join(lines), FAILED, f"nothing was predicted: {lines[0]}")


def _predicted(home: Any, loaded: Any, made: Any, reader: Any, file: Path) -> dict[str, Any]:
    from toploss.errors import BadInput
    from toploss.preprocess import decode

    try:
        size = loaded.preprocessing.size
        picture = decode(file.read_bytes(), size, home.limits)
    except OSError as exc:
        return {"file": str(file), "error": f"cannot be read ({exc.strerror}); check the path"}
    except BadInput as exc:
        return {"file": str(file), "error": str(exc)}
    answer = reader.read(made.outputs(picture[None]))[0]
    top = [asdict(guess) for guess in answer.guesses[:3]]
    return {
        "file": str(file),
        **top[0],
        "top": top,
        "uncertain": answer.uncertain,
        "novelty": answer.novelty,
    }


def _moved(alias: Any) -> Answer:
    data = {"version": alias.version, "generation": alias.generation, "kind": alias.kind}
    text = f"production is {alias.version}, generation {alias.generation}"
    return Answer(data, text + (", an override of the gate" if alias.kind == "override" else ""))


def _card(version: Any) -> dict[str, Any]:
    return {
        "version": version.name,
        "run": version.run,
        "created_at": version.created_at,
        "architecture": version.manifest["architecture"],
        "labels": version.manifest["labels"],
        "metrics": version.manifest["metrics"],
        "gate": version.manifest["gate"],
        "pruned_at": version.pruned_at,
    }


@command(top, "drift")
def drift(
    hours: Annotated[
        int | None, typer.Option(min=1, max=720, help="Of the last hours; else the setting's.")
    ] = None,
) -> Answer:
    """How far the traffic has shifted from production's snapshot."""
    from toploss import drift as watched
    from toploss.home import Home

    found = watched.look(Home.open(), hours=hours)
    rows = [
        [kind.value, shift.state.value, shift.statistic, shift.watch, shift.alarm, shift.why]
        for kind, shift in found.kinds.items()
    ]
    text = (
        f"{found.model}: {found.state}; {found.answers} answers since {when(found.since)}, "
        f"against {found.reference} held-out images\n"
    )
    head = ["kind", "state", "index", "look from", "alarm from", "why"]
    return Answer(found.as_json(), text + table(head, rows))

"""Commands on images, labels and classes."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from training.commands_train import Arch, Size, Weights
from training.edge import FAILED, Answer, at_end, command, first_of, table, write_whole

dataset = typer.Typer(no_args_is_help=True, help="The data set: counts, findings, differences.")
classes = typer.Typer(no_args_is_help=True, help="The classes: names, and what becomes of them.")
top = typer.Typer()


def add_to(app: typer.Typer) -> None:
    app.add_typer(top)
    app.add_typer(dataset, name="dataset")
    app.add_typer(classes, name="classes")


@command(top, "import")
def import_(
    path: Annotated[Path, typer.Argument(help="Folder of classes, or where a CSV's paths start.")],
    csv: Annotated[Path | None, typer.Option(help="Import the images that this CSV names.")] = None,
    image_column: Annotated[str, typer.Option(help="The CSV's column of paths.")] = "image",
    label_column: Annotated[str, typer.Option(help="The CSV's column of labels.")] = "label",
    split_column: Annotated[
        str | None, typer.Option(help="The CSV's column of train, valid or test, if it has one.")
    ] = None,
    on_conflict: Annotated[
        Literal["keep", "new-label"],
        typer.Option(help="A known image with another label: keep its own, or take the new one."),
    ] = "keep",
) -> Answer:
    """Import `train|valid|test/<class>/…`, `<class>/…`, or the images that a CSV names."""
    from toploss.home import Home
    from training import intake

    home = Home.open()
    if csv is None:
        summary = intake.from_folder(
            path, home=home, on_conflict=on_conflict, progress=_progress("importing")
        )
    else:
        summary = intake.from_csv(
            csv,
            root=path,
            image_column=image_column,
            label_column=label_column,
            split_column=split_column,
            home=home,
            on_conflict=on_conflict,
            progress=_progress("importing"),
        )
    taken = on_conflict == "new-label" and summary.conflicts > 0
    lines = [
        f"added {summary.added}, already known {summary.known}, "
        f"label conflicts {summary.conflicts}{', each now as given' * taken}, "
        f"refused {len(summary.refused)}, near-duplicates {summary.near_duplicates}, "
        f"quarantined {len(summary.quarantined)}"
    ]
    lines += first_of([_conflict(entry, taken=taken) for entry in summary.conflicting])
    lines += first_of([f"refused: {r['path']}: {r['reason']}" for r in summary.refused])
    lines += first_of(
        [
            f"quarantined: {q['id'][:12]} is kept out of training, its near-duplicate "
            f"{q['because'][:12]} is held out"
            for q in summary.quarantined
        ]
    )
    lines += [f"  note: {note}" for note in summary.notes]
    if summary.added + summary.known:
        return Answer(summary.as_json(), "\n".join(lines))
    first = summary.refused[0]
    complaint = (
        f"nothing was imported: {len(summary.refused)} refused, first "
        f"{first['path']}: {first['reason']}"
    )
    return Answer(summary.as_json(), "\n".join(lines), FAILED, complaint)


def _conflict(entry: dict[str, str], *, taken: bool) -> str:
    if taken:
        return f"relabelled: {entry['path']} was another, is {entry['label']!r} now"
    return f"conflict: {entry['path']} was given {entry['given']!r}, is {entry['label']!r}"


@command(dataset, "show")
def show() -> Answer:
    """Counts per class and split, and what has changed since the last verdict."""
    from toploss import snapshots
    from toploss.home import Home

    found = snapshots.overview(Home.open())
    rows: list[list[Any]] = [
        [name, *counts.values(), sum(counts.values())] for name, counts in found["classes"].items()
    ]
    rows.append(["all", *found["splits"].values(), found["samples"]])
    text = table(["class", "train", "valid", "test", "all"], rows)
    text += (
        f"\n{found['changed']} of train and valid changed since the last verdict, "
        f"{found['excluded']} excluded, {found['quarantined']} quarantined, "
        f"{found['erased']} erased, "
        f"{found['conflicts']} label conflicts on record"
    )
    return Answer(found, text)


@command(dataset, "check")
def check(
    quarantine: Annotated[
        bool,
        typer.Option("--quarantine", help="Keep the training sample of every leak from training."),
    ] = False,
    by_features: Annotated[
        bool,
        typer.Option(
            "--by-features",
            help="Also propose pairs across the splits that a pretrained body takes for one "
            "picture: mirrored, turned or cropped copies. Takes as long as stage one.",
        ),
    ] = False,
    arch: Arch = None,
    weights: Weights = None,
    size: Size = None,
) -> Answer:
    """What is wrong with the data, or may be: findings with a remedy each. Decodes every image."""
    from toploss import findings
    from toploss.home import Home
    from toploss.plan import Plan

    home = Home.open()
    put = findings.set_leaks_aside(home) if quarantine else []
    found = findings.check(home)
    if by_features:
        from training import lookalikes

        plan = Plan.from_settings(home.settings).but(arch=arch, weights=weights, size=size)
        found += lookalikes.find(home, plan)
    lines = [f"{len(put)} samples quarantined"] if quarantine else []
    for one in found:
        lines += [f"{one.severity}: {one.kind}: {one.words}", f"    {one.remedy}"]
    counts = {level.value: 0 for level in findings.Severity}
    for one in found:
        counts[one.severity] += 1
    lines.append(
        ", ".join(f"{number} {level}{'s' * (number != 1)}" for level, number in counts.items())
    )
    data = {
        "counts": counts,
        "findings": [one.as_json() for one in found],
        "quarantined": [one.as_json() for one in put],
    }
    return Answer(data, "\n".join(lines))


@command(dataset, "diff")
def diff(
    a: Annotated[str, typer.Argument(help="A snapshot's fingerprint, a run or a version.")],
    b: Annotated[str, typer.Argument(help="Another one, later.")],
) -> Answer:
    """What came, went or was relabelled from one snapshot to another."""
    from toploss import difference
    from toploss.home import Home

    found = difference.between(Home.open(), a, b)
    rows = [[label, *counts, counts[1] - counts[0]] for label, counts in found.classes.items()]
    lines = [
        f"{found.a[:12]} to {found.b[:12]}: added {len(found.added)}, removed "
        f"{len(found.removed)}, relabelled {len(found.relabelled)}, moved {len(found.moved)}"
    ]
    lines += [f"  class {old} is called {new} now" for old, new in found.renamed]
    for word, changes in (("relabelled", found.relabelled), ("moved", found.moved)):
        lines += [f"  {word}: {one.id[:12]} {one.before} to {one.after}" for one in changes]
    text = "\n".join([*lines, table(["class", "before", "after", "change"], rows)])
    return Answer(found.as_json(), text)


@command(dataset, "export")
def export(
    file: Annotated[Path, typer.Argument(help="The CSV file to write.")],
) -> Answer:
    """Write every sample with today's label and split to a CSV."""
    from toploss import snapshots
    from toploss.home import Home

    number = -1  # without the head

    def counted() -> Iterator[str]:
        nonlocal number
        for piece in snapshots.export(Home.open()):
            number += piece.count("\n")
            yield piece

    write_whole(file, counted())
    return Answer({"file": str(file), "samples": number}, f"{number} samples in {file}")


@command(classes, "list")
def list_() -> Answer:
    """The classes with their numbers of samples."""
    from toploss import classes as stored
    from toploss.home import Home

    found = stored.listed(Home.open())
    rows = [[entry["id"], entry["name"], entry["samples"]] for entry in found]
    return Answer({"classes": found}, table(["id", "class", "samples"], rows))


@command(classes, "add")
def add(name: Annotated[str, typer.Argument(help="The new class.")]) -> Answer:
    """Add a class, so that labels over HTTP may name it."""
    from toploss import classes as stored
    from toploss.home import Home

    new = stored.add(Home.open(), name, actor="local")
    return Answer({"name": name, "new": new}, f"{name}: {'added' if new else 'known already'}")


@command(classes, "rename")
def rename(
    old: Annotated[str, typer.Argument(help="Its name today.")],
    new: Annotated[str, typer.Argument(help="Its new name.")],
) -> Answer:
    """Give a class another name; versions answer with the names they were published with."""
    from toploss import classes as stored
    from toploss.home import Home

    stored.rename(Home.open(), old, new, actor="local")
    return Answer({"old": old, "new": new}, f"{old} is {new} now")


@command(classes, "merge")
def merge(
    source: Annotated[str, typer.Argument(metavar="A", help="The class that goes.")],
    word: Annotated[str, typer.Argument(metavar="into", help="As in: merge cat into animal.")],
    target: Annotated[str, typer.Argument(metavar="B", help="The class that stays.")],
) -> Answer:
    """Merge class A into class B: every sample of A is one of B from now on."""
    from toploss import merging
    from toploss.home import Home

    if word.lower() != "into":
        raise typer.BadParameter(f"{word!r} stands where into belongs; write A into B")
    moved = merging.merge(Home.open(), source, target, actor="local")
    data = {"source": source, "target": target, "moved": moved}
    return Answer(data, f"{moved} samples of {source} are {target} now")


@command(top, "top-losses")
def top_losses(
    order: Annotated[
        Literal["loss", "margin", "combined", "confident-wrong", "neighbours"],
        typer.Option(help="What puts a sample first."),
    ] = "loss",
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many.")] = 20,
    label: Annotated[str | None, typer.Option(help="Only this label.")] = None,
    predicted: Annotated[str | None, typer.Option(help="Only what was taken for this.")] = None,
) -> Answer:
    """The samples that the model was most wrong about, held out."""
    from toploss import losses
    from toploss.home import Home
    from toploss.orders import Order

    which = losses.Filter(label=label, predicted=predicted)
    page = losses.top(Home.open(), which, order=Order(order), limit=limit)
    rows = [
        [i.rank, i.score, i.label, i.predicted, i.confidence, i.split, i.name, i.id]
        for i in page.items
    ]
    columns = ["rank", order, "label", "predicted", "confidence", "split", "file", "sample"]
    text = table(columns, rows)
    text += f"\n{len(page.items)} of {page.total} to review, by version {page.version}"
    if page.version is None:
        text = page.note or "nothing is scored yet; train a version with `toploss train`"
    data = {"order": order, "total": page.total, "model": page.version, "note": page.note}
    return Answer(data | {"items": [item.as_json() for item in page.items]}, text)


def _progress(what: str) -> Any:
    """A bar on standard error, and only on a terminal."""
    if not sys.stderr.isatty():
        return None
    from rich.console import Console
    from rich.progress import Progress

    bar = Progress(console=Console(stderr=True), transient=True)
    at_end(bar.stop)
    task = bar.add_task(what)

    def follow(done: int, total: int) -> None:
        if not bar.live.is_started:
            bar.start()
        bar.update(task, completed=done, total=total)
        if done >= total:
            bar.stop()

    return follow

"""Commands on single samples."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from training.edge import Answer, command, table, when, write_whole

if TYPE_CHECKING:
    from toploss.erasure import Tombstone

samples = typer.Typer(no_args_is_help=True, help="Single samples.")


def add_to(app: typer.Typer) -> None:
    app.add_typer(samples, name="samples")


@command(samples, "show")
def show(
    sample: Annotated[str, typer.Argument(help="Its id: the SHA-256 of the image, in hex.")],
) -> Answer:
    """A sample as it stands, and everything that happened to it, oldest first."""
    from toploss import classes, erasure, events, quarantine, trail
    from toploss import samples as stored
    from toploss.home import Home

    home = Home.open()
    with home.db.read() as connection:
        row = stored.find(connection, sample)
        now = events.present(row, classes.load(connection))
    history, stone = trail.of(home, sample), erasure.of(home, sample)
    standing = {
        **now,
        "state": quarantine.state(row),
        "name": row.name,
        "format": row.format,
        "width": row.width,
        "height": row.height,
        "bytes": row.bytes,
        "added_at": row.added_at,
        "erased": stone and asdict(stone),
    }
    lines = [
        f"sample {sample}",
        *([_told(stone)] if stone else []),
        f"{row.name or 'image'}: {row.format}, {row.width} × {row.height}, {row.bytes:,} bytes",
        f"{standing['label']}, {standing['split']}, {standing['state']}, "
        f"revision {standing['revision']}; added {when(row.added_at)}",
        "",
        table(
            ["when", "who", "what", "label", "before", "revision"],
            [
                [when(e["at"]), e["actor"], e["action"], e["label"], e["before"], e["revision"]]
                for e in history
            ],
        ),
    ]
    return Answer({**standing, "history": history}, "\n".join(lines))


@command(samples, "lineage")
def lineage(
    sample: Annotated[str, typer.Argument(help="Its id: the SHA-256 of the image, in hex.")],
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="How many versions.")] = 100,
) -> Answer:
    """The versions that learned from a sample, newest first, and those that it was held out of."""
    from toploss import lineage as told
    from toploss.home import Home

    home, found = Home.open(), list[told.Use]()
    after: str | None = None
    while True:
        some, after = told.uses(home, sample, after=after, limit=limit - len(found))
        found += some
        if after is None or len(found) == limit:
            break
    rows = [
        [
            one.version,
            when(one.published_at),
            one.part.value,
            one.split,
            one.label,
            one.through or "",
        ]
        for one in found
    ]
    head = ["version", "published", "it was", "split", "label then", "through run"]
    text = table(head, rows) if rows else f"no version had sample {sample}"
    data = {"sample": sample, "versions": [one.as_json() for one in found], "more": bool(after)}
    return Answer(data, text + ("\nthere are more; --limit shows them" if after else ""))


@command(samples, "erased")
def erased(
    file: Annotated[Path, typer.Argument(help="What to write, a CSV; it has ids and no images.")],
) -> Answer:
    """Write down which samples were erased. Keep it apart from the back-ups: one from before an
    erasure brings the sample back, until `samples erase --from` has forgotten it again."""
    from toploss import tombstones
    from toploss.home import Home

    stones = tombstones.listed(Home.open())
    write_whole(file, tombstones.as_csv(stones))
    return Answer(
        {"file": str(file), "erased": len(stones)}, f"{file} is written; erased: {len(stones)}"
    )


@command(samples, "erase")
def erase(
    sample: Annotated[
        str | None, typer.Argument(help="Its id: the SHA-256 of the image, in hex.")
    ] = None,
    reason: Annotated[str | None, typer.Option(help="Why it has to go; it is kept.")] = None,
    file: Annotated[
        Path | None,
        typer.Option("--from", help="Those of a file of `samples erased`, after a restore."),
    ] = None,
) -> Answer:
    """Erase a sample for good: its image, and all that was made of it. A tombstone stays."""
    from toploss import erasure, tombstones
    from toploss.home import Home

    if file is not None and sample is None and reason is None:
        done = tombstones.replay(Home.open(), file, actor="local")
        return Answer(
            asdict(done),
            f"{done.erased} samples erased; {done.before} were before, {done.unknown} are not here"
            + (f"; {done.doubt}" if done.doubt else ""),
        )
    if file is not None or sample is None or reason is None:
        raise typer.BadParameter("give a sample and its --reason, or a file by --from")
    stone = erasure.erase(Home.open(), sample, reason=reason, actor="local")
    return Answer(asdict(stone), f"sample {sample}\n{_told(stone)}")


def _told(stone: "Tombstone") -> str:
    text = f"erased on {when(stone.at)} by {stone.actor}: {stone.reason}"
    if stone.ended_at is None:
        text += "; a run that began before may hold more of it, which goes when that has ended"
    if stone.doubt is not None:
        text += f"; {stone.doubt}"
    return text

"""Commands on single samples."""

from typing import Annotated

import typer

from training.edge import Answer, command, table, when

samples = typer.Typer(no_args_is_help=True, help="Single samples.")


def add_to(app: typer.Typer) -> None:
    app.add_typer(samples, name="samples")


@command(samples, "show")
def show(
    sample: Annotated[str, typer.Argument(help="Its id: the SHA-256 of the image, in hex.")],
) -> Answer:
    """A sample as it stands, and everything that happened to it, oldest first."""
    from toploss import classes, decisions, quarantine, trail
    from toploss import samples as stored
    from toploss.home import Home

    home = Home.open()
    with home.db.read() as connection:
        row = stored.find(connection, sample)
        now = decisions.present(row, classes.load(connection))
    history = trail.of(home, sample)
    standing = {
        **now,
        "state": quarantine.state(row),
        "name": row.name,
        "format": row.format,
        "width": row.width,
        "height": row.height,
        "bytes": row.bytes,
        "added_at": row.added_at,
    }
    lines = [
        f"sample {sample}",
        f"{row.name}: {row.format}, {row.width} × {row.height}, {row.bytes:,} bytes",
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

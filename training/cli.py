"""`toploss`: the command line. Everything heavy is imported inside the commands."""

from pathlib import Path
from typing import Annotated, Any

import typer

from training import (
    commands_captures,
    commands_data,
    commands_keys,
    commands_runs,
    commands_samples,
    commands_trail,
    commands_train,
    commands_versions,
)
from training.edge import Answer, command

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help, in half the time
    help="Train an image classifier, serve it, review what it was most wrong about, retrain it.",
)
db = typer.Typer(no_args_is_help=True, help="The database.")
for part in (
    commands_data,
    commands_samples,
    commands_trail,
    commands_train,
    commands_runs,
    commands_versions,
    commands_captures,
    commands_keys,
):
    part.add_to(app)
app.add_typer(db, name="db")


@command(db, "upgrade")
def upgrade(
    force: Annotated[bool, typer.Option("--force", help="Even while a run is active.")] = False,
) -> Answer:
    """Bring the database to this release's schema; a missing one is created. Services of the
    release before may run on meanwhile (docs/operating.md); stop its dispatcher first. Once they
    are gone, do it again, or start a dispatcher: what they wrote meanwhile is told to all tables.
    """
    from toploss import arrears
    from toploss.database import Database
    from toploss.home import Home
    from toploss.settings import read_settings

    before, after = Database(read_settings().database).upgrade(force=force)
    home, late = Home.open(), 0
    while number := arrears.follow(home):
        late += number
    told = f"the database was at {after} already" if before == after else f"{before} → {after}"
    if late:
        told += f"; {late} samples that an older release had changed were told anew"
    return Answer({"before": before, "after": after, "late": late}, told)


@command(db, "backup")
def backup(
    file: Annotated[Path, typer.Argument(help="What to write; it must not be there yet.")],
) -> Answer:
    """Copy the SQLite database into a file while the service runs. The storage is copied after it,
    with any tool (docs/operating.md); PostgreSQL has `pg_dump`."""
    from toploss.database import Database
    from toploss.settings import read_settings

    database = Database(read_settings().database)
    database.copy_to(file)
    size = file.stat().st_size
    data = {"file": str(file), "bytes": size, "schema": database.revision()}
    return Answer(data, f"{size:,} bytes in {file}; now copy the storage")


def _version(shown: bool) -> None:
    if shown:
        from toploss import __version__

        print(f"toploss {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show and exit.")
    ] = False,
) -> None:
    pass


def main() -> Any:
    return app()


if __name__ == "__main__":
    main()

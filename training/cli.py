"""`toploss`: the command line. Everything heavy is imported inside the commands."""

from typing import Annotated, Any, Literal

import typer

from training import commands_data, commands_runs, commands_train, commands_versions
from training.edge import Answer, command, table, when

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help, in half the time
    help="Train an image classifier, serve it, review what it was most wrong about, retrain it.",
)
keys = typer.Typer(no_args_is_help=True, help="API keys: who may do what over HTTP.")
db = typer.Typer(no_args_is_help=True, help="The database.")
for part in (commands_data, commands_train, commands_runs, commands_versions):
    part.add_to(app)
app.add_typer(keys, name="keys")
app.add_typer(db, name="db")


@command(keys, "create")
def create(
    name: Annotated[str, typer.Argument(help="Who holds it; it stands beside what is decided.")],
    role: Annotated[
        Literal["predict", "review", "admin"], typer.Option(help="What it is good for.")
    ],
) -> Answer:
    """Make a key. It is shown this once: only its hash is kept."""
    from toploss import keys as stored
    from toploss.home import Home

    secret = stored.create(Home.open(), name, role)
    return Answer({"name": name, "role": role, "key": secret}, secret)


@command(keys, "list")
def list_() -> Answer:
    """The keys, without their secrets."""
    from toploss import keys as stored
    from toploss.home import Home

    found = stored.listed(Home.open())
    rows = [[key.name, key.role, when(key.created_at), when(key.revoked_at)] for key in found]
    return Answer(
        {"keys": [vars(key) for key in found]}, table(["name", "role", "made", "revoked"], rows)
    )


@command(keys, "revoke")
def revoke(name: Annotated[str, typer.Argument(help="A key of `toploss keys list`.")]) -> Answer:
    """Have a key refused from now on; running services know within seconds."""
    from toploss import keys as stored
    from toploss.home import Home

    stored.revoke(Home.open(), name)
    return Answer({"name": name, "revoked": True}, f"key {name} is revoked")


@command(db, "upgrade")
def upgrade() -> Answer:
    """Bring the database to this release's schema; a missing one is created."""
    from toploss.database import Database
    from toploss.settings import read_settings

    before, after = Database(read_settings().database).upgrade()
    told = f"the database was at {after} already" if before == after else f"{before} → {after}"
    return Answer({"before": before, "after": after}, told)


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

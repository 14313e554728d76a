"""Commands on API keys."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from training.edge import Answer, command, table, when

keys = typer.Typer(no_args_is_help=True, help="API keys: who may do what over HTTP.")


def add_to(app: typer.Typer) -> None:
    app.add_typer(keys, name="keys")


@command(keys, "create")
def create(
    name: Annotated[str, typer.Argument(help="Who holds it; it stands beside what is decided.")],
    role: Annotated[
        Literal["predict", "review", "admin"], typer.Option(help="What it is good for.")
    ],
    file: Annotated[
        Path | None,
        typer.Option(
            help="Keep its hash in this file (TOPLOSS_KEYS_FILE), not in the database: a line, "
            "which is there as long as the key is in force."
        ),
    ] = None,
) -> Answer:
    """Make a key. It is shown this once: only its hash is kept."""
    from toploss import keys as stored
    from toploss.home import Home

    if file is None:
        secret = stored.create(Home.open(), name, role)
    else:
        secret = stored.create_in_file(file, name, role)
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

"""Commands on images of production that were kept for review."""

from typing import Annotated, Literal

import typer

from training.edge import Answer, command, table, when

captures = typer.Typer(no_args_is_help=True, help="Images of production, kept for review.")


def add_to(app: typer.Typer) -> None:
    app.add_typer(captures, name="captures")


@command(captures, "list")
def list_(
    state: Annotated[
        Literal["waiting", "labelled", "discarded", "all"], typer.Option(help="How they stand.")
    ] = "waiting",
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many.")] = 20,
) -> Answer:
    """What was kept and why; claimed ones first, then the newest."""
    from toploss import captures as stored
    from toploss.home import Home

    found, total = stored.listed(Home.open(), state, limit=limit)
    rows = [
        [
            row["id"],
            row["why"],
            row["state"],
            (row["prediction"] or {}).get("label"),
            (row["prediction"] or {}).get("confidence"),
            (row["claimed"] or {}).get("label"),
            when(row["at"]),
            when(row["until"]),
        ]
        for row in found
    ]
    columns = ["capture", "why", "state", "predicted", "confidence", "claimed", "kept", "until"]
    text = f"{table(columns, rows)}\n{len(found)} of {total}"
    return Answer({"items": found, "total": total}, text if found else "none")


@command(captures, "erase")
def erase(
    capture: Annotated[str, typer.Argument(help="A capture of `toploss captures list`.")],
) -> Answer:
    """Delete a capture: its image, and what was said of it. A sample made of it stays."""
    from toploss import captures as stored
    from toploss.home import Home

    sample = stored.erase(Home.open(), capture)
    text = f"{capture} is erased"
    if sample is not None:
        text += f"; sample {sample}, which was made of it, stays"
    return Answer({"id": capture, "sample": sample}, text)


@command(captures, "prune")
def prune(
    all_of_them: Annotated[
        bool, typer.Option("--all", help="Also those whose days are not over.")
    ] = False,
) -> Answer:
    """Delete the captures whose days are over, as the service does every minute. Samples stay."""
    from toploss import captures as stored
    from toploss.home import Home

    home = Home.open()
    try:
        removed = stored.expire(home, all_of_them=all_of_them)
    finally:
        stored.tidy(home, older_s=0.0 if all_of_them else stored.BROKEN_OFF_S)
    return Answer({"captures": removed}, f"{removed} captures deleted")

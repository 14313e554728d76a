"""How far the review is, for its page: what is done, what is left, what comes of it."""

from dataclasses import asdict
from typing import Any

from fastapi import APIRouter
from sqlalchemy import Connection, select

from service import times
from service.desk import OurHome
from toploss import models, progress, records
from toploss.home import Home
from toploss.schema import runs, versions

router = APIRouter(prefix="/v1", tags=["review"])


@router.get("/progress", summary="What is reviewed and left, and the retraining that it leads to")
def now(home: OurHome) -> dict[str, Any]:
    """`recent` are the last 50 decisions; `estimate` says how many wrong labels are left, with an
    interval of 90 %, and is null until there are twenty decisions. `run` is the newest one,
    `serving` and `before` the version that answers and the one that it took over from."""
    with home.db.read() as connection:
        serving, before = _versions(connection)
    return {
        **asdict(progress.now(home)),
        "run": _newest_run(home),
        "serving": serving,
        "before": before,
    }


def _newest_run(home: Home) -> dict[str, Any] | None:
    with home.db.read() as connection:
        row = connection.execute(select(runs).order_by(runs.c.id.desc()).limit(1)).first()
        if row is None:
            return None
        run = times.spelled(records.told(connection, row))
    told = (
        *("id", "state", "stage", "epoch", "epochs", "stage_left_s", "left_s"),
        *("history", "error", "version", "ended_at"),
    )
    return {name: run[name] for name in told}


def _versions(connection: Connection) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    alias = models.standing(connection)
    if alias is None:
        return None, None
    below = models.below(connection)
    serving = {"generation": alias.generation, **_metrics(connection, alias.version)}
    return serving, None if below is None else _metrics(connection, below)


def _metrics(connection: Connection, version: str) -> dict[str, Any]:
    query = select(versions.c.manifest).where(versions.c.name == version)
    manifest = connection.execute(query).scalar_one()
    return {"version": version, "metrics": manifest.get("metrics", {})}

"""Versions, and the production alias that points to one of them."""

import time
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, select

from toploss import outbox, policy
from toploss.errors import NotFound, Refused, Stale
from toploss.home import Home
from toploss.outbox import Type
from toploss.schema import alias_moves, versions

PRODUCTION = "production"


@dataclass(frozen=True, kw_only=True)
class Version:
    """A published model. Immutable."""

    name: str  # lower-case, opaque, sorts by time
    run: str
    path: str  # its folder in the storage
    manifest: dict[str, Any]
    manifest_sha256: str
    created_at: float  # seconds since 1970, UTC
    manifest_name: str = "manifest.json"  # of its file, in the folder


@dataclass(frozen=True, kw_only=True)
class Alias:
    """Where production stands."""

    version: str
    generation: int  # grows at every move
    sealed: str  # SHA-256 of the version's manifest: another one when a sample in it was erased
    below: int | None  # the generation that a roll-back returns to
    reason: str
    at: float


@dataclass(frozen=True, kw_only=True)
class Move:
    """A move of production."""

    generation: int
    version: str
    kind: str  # promote, rollback
    reason: str
    actor: str
    at: float


def standing(connection: Connection) -> Alias | None:
    """Production; None when nothing was ever promoted."""
    row = connection.execute(
        select(alias_moves, versions.c.manifest_sha256)
        .join(versions, versions.c.name == alias_moves.c.version)
        .order_by(alias_moves.c.generation.desc())
        .limit(1)
    ).first()
    if row is None:
        return None
    return Alias(
        version=row.version,
        generation=row.generation,
        sealed=row.manifest_sha256,
        below=row.below,
        reason=row.reason,
        at=row.at,
    )


def production(home: Home) -> Alias | None:
    with home.db.read() as connection:
        return standing(connection)


def get(home: Home, name: str) -> Version:
    """A version by name, or by the alias `production`. Raises NotFound."""
    with home.db.read() as connection:
        return found(connection, name)


def listed(home: Home, *, after: str | None = None, limit: int | None = None) -> list[Version]:
    """Versions, newest first, those older than `after`."""
    query = select(versions).order_by(versions.c.name.desc()).limit(limit)
    if after is not None:
        query = query.where(versions.c.name < after)
    with home.db.read() as connection:
        return [_version(row) for row in connection.execute(query)]


def moves(home: Home, *, limit: int) -> list[Move]:
    """Where production stood, the latest first."""
    query = select(alias_moves).order_by(alias_moves.c.generation.desc()).limit(limit)
    with home.db.read() as connection:
        return [_moved(row) for row in connection.execute(query)]


def before(home: Home) -> str | None:
    """The version that a roll-back would return to; None: there is none."""
    with home.db.read() as connection:
        now = standing(connection)
        below = alias_moves.c.generation == (now.below if now else None)
        return connection.execute(select(alias_moves.c.version).where(below)).scalar()


def promote(
    home: Home, name: str, *, reason: str, actor: str, expected: int | None = None
) -> Alias:
    """Point production at a version; promoting the one that stands changes nothing.

    Args:
        expected: the generation that the caller saw (0: none), if that matters.

    Raises:
        NotFound: no such version. Stale: production has moved since `expected`.
    """
    with home.db.write() as connection:
        version = found(connection, name)
        return move(connection, version.name, reason=reason, actor=actor, expected=expected)


def move(
    connection: Connection, name: str, *, reason: str, actor: str, expected: int | None = None
) -> Alias:
    """As `promote`, within the caller's transaction."""
    now = standing(connection)
    generation = now.generation if now else 0
    if expected is not None and generation != expected:
        raise Stale(
            f"production has moved to generation {generation} since {expected} was looked at; "
            "compare with what serves now and promote again",
            present={"generation": generation, "version": now.version if now else None},
        )
    if now is not None and now.version == name:
        return now
    _move(connection, generation + 1, name, "promote", generation or None, reason, actor)
    moved = standing(connection)
    assert moved is not None
    return moved


def rollback(home: Home, *, reason: str, actor: str) -> Alias:
    """Return production to the version before, and pause the automatic policy.

    Rolling back again goes one further back.

    Raises:
        Refused: there is nothing to return to.
    """
    with home.db.write() as connection:
        now = standing(connection)
        if now is None or now.below is None:
            raise Refused(
                "production cannot be rolled back: no version served before "
                + (f"{now.version}; " if now else "any; ")
                + "promote another one with `toploss models promote VERSION`"
            )
        below = connection.execute(
            select(alias_moves).where(alias_moves.c.generation == now.below)
        ).one()
        _move(connection, now.generation + 1, below.version, "rollback", below.below, reason, actor)
        policy.set_paused(
            connection, True, reason=f"rolled back from {now.version}: {reason}", actor=actor
        )
        moved = standing(connection)
        assert moved is not None
        return moved


def _move(
    connection: Connection,
    generation: int,
    version: str,
    kind: str,
    below: int | None,
    reason: str,
    actor: str,
) -> None:
    connection.execute(
        alias_moves.insert().values(
            generation=generation,
            version=version,
            kind=kind,
            below=below,
            reason=reason,
            actor=actor,
            at=time.time(),
        )
    )
    known = found(connection, version)
    told = {
        "run": known.run,
        "version": version,
        "generation": generation,
        "reason": reason,
        "actor": actor,
        "metrics": known.manifest.get("metrics"),
    }
    outbox.put(connection, Type.PROMOTED if kind == "promote" else Type.ROLLED_BACK, told)


def found(connection: Connection, name: str) -> Version:
    """As `get`, within the caller's transaction."""
    if name == PRODUCTION:
        alias = standing(connection)
        if alias is None:
            raise NotFound(
                "no version has been promoted yet; "
                "train one with `toploss train` or promote one with `toploss models promote`"
            )
        name = alias.version
    row = connection.execute(select(versions).where(versions.c.name == name)).first()
    if row is None:
        raise NotFound(f"there is no version {name!r}; `toploss models list` shows them")
    return _version(row)


def _version(row: Any) -> Version:
    return Version(
        name=row.name,
        run=row.run_id,
        path=row.path,
        manifest=row.manifest,
        manifest_sha256=row.manifest_sha256,
        manifest_name=row.manifest_name,
        created_at=row.created_at,
    )


def _moved(row: Any) -> Move:
    return Move(
        generation=row.generation,
        version=row.version,
        kind=row.kind,
        reason=row.reason,
        actor=row.actor,
        at=row.at,
    )

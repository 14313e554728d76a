"""Versions, and the production alias that points to one of them."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, select

from toploss import outbox, policy
from toploss.database import ALIAS, one_at_a_time
from toploss.errors import NotFound, Pruned, Refused, Stale
from toploss.home import Home
from toploss.outbox import Type
from toploss.schema import alias_moves, versions
from toploss.times import iso

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
    pruned_at: float | None = None  # when its files went; None: they are there


@dataclass(frozen=True, kw_only=True)
class Alias:
    """Where production stands."""

    version: str
    generation: int  # grows at every move
    kind: str  # of the move to it: promote, rollback; override: against the gate
    sealed: str  # SHA-256 of the version's manifest: another one when a sample in it was erased
    below: int | None  # the generation that a roll-back returns to
    reason: str
    at: float


@dataclass(frozen=True, kw_only=True)
class Move:
    """A move of production."""

    generation: int
    version: str
    kind: str  # promote, rollback; override: a promotion that the gate had not agreed to
    reason: str
    actor: str
    at: float
    cause: str | None  # of `watch.Cause`, of a roll-back by itself


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
        kind=row.kind,
        sealed=row.manifest_sha256,
        below=row.below,
        reason=row.reason,
        at=row.at,
    )


def production(home: Home) -> Alias | None:
    """Where the alias stands; None: nothing was ever promoted."""
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
        return below(connection)


def below(connection: Connection) -> str | None:
    """As `before`, within the caller's transaction."""
    served = next(earlier(connection, standing(connection)), None)
    return served.version if served else None


def earlier(connection: Connection, alias: Alias | None) -> Iterator[Row[Any]]:
    """The moves that roll-backs return to, one after the other, without those whose versions were
    pruned."""
    generation = alias.below if alias else None
    while generation is not None:
        row = connection.execute(
            select(alias_moves, versions.c.pruned_at)
            .join(versions, versions.c.name == alias_moves.c.version)
            .where(alias_moves.c.generation == generation)
        ).one()
        if row.pruned_at is None:
            yield row
        generation = row.below


def promote(
    home: Home, name: str, *, reason: str | None, actor: str, expected: int | None = None
) -> Alias:
    """Point production at a version; promoting the one that stands changes nothing. One that the
    gate did not agree to takes a reason, and is recorded as an override.

    Args:
        reason: None: none was given.
        expected: the generation that the caller saw (0: none), if that matters.

    Raises:
        NotFound: no such version. Pruned: its files are gone.
        Stale: production has moved since `expected`.
        Refused: the gate did not agree, and there is no reason to do it all the same.
    """
    reason = (reason or "").strip()
    with home.db.write() as connection:
        one_at_a_time(connection, ALIAS)
        version, now = whole(connection, name), standing(connection)
        serves = now is not None and now.version == version.name
        if (against := objection(version)) is None or serves:
            kind = "promote"
        elif reason:
            kind = "override"
        else:
            raise Refused(
                f"{against}; to promote it all the same takes a reason, which is recorded: "
                f'`toploss models promote {version.name} --reason TEXT`, or {{"reason": "…"}} in '
                "the request"
            )
        return move(
            connection,
            version.name,
            reason=reason or "by hand",
            actor=actor,
            expected=expected,
            kind=kind,
        )


def objection(version: Version) -> str | None:
    """Why the gate did not agree to a version's promotion; None: it did, or never judged it."""
    gate = version.manifest.get("gate")
    # Versions from before 0.2.0 do not say whether they passed.
    if not gate or gate.get("passed", gate["verdict"] == "promote"):
        return None
    said = "could not tell about" if gate["verdict"] == "cannot_tell" else "refused"
    return f"the gate {said} version {version.name}: {gate['reason']}"


def move(
    connection: Connection,
    name: str,
    *,
    reason: str,
    actor: str,
    expected: int | None = None,
    kind: str = "promote",
) -> Alias:
    """As `promote`, within the caller's transaction, whatever the gate said; of a version that is
    whole."""
    one_at_a_time(connection, ALIAS)
    now = standing(connection)
    generation = now.generation if now else 0
    _refuse_stale(now, expected)
    if now is not None and now.version == name:
        return now
    _move(connection, generation + 1, name, kind, generation or None, reason, actor)
    moved = standing(connection)
    assert moved is not None
    return moved


def rollback(
    home: Home,
    *,
    reason: str,
    actor: str,
    to: str | None = None,
    expected: int | None = None,
    cause: str | None = None,
) -> Alias:
    """Return production to the version before, and pause the automatic policy.

    Rolling back again goes one further back. Versions that were pruned are passed over.

    Args:
        to: a version that served before, further back.
        expected: the generation that the caller saw, if that matters.
        cause: of `watch.Cause`, where nobody asked for it.

    Raises:
        Refused: there is nothing to return to, or `to` is not among it. Stale.
    """
    with home.db.write() as connection:
        one_at_a_time(connection, ALIAS)
        now = standing(connection)
        _refuse_stale(now, expected)
        served = earlier(connection, now)
        back = next((row for row in served if to in (None, row.version)), None)
        if now is None or back is None:
            raise Refused(_no_way_back(now, to))
        _move(
            connection,
            now.generation + 1,
            back.version,
            "rollback",
            back.below,
            reason,
            actor,
            cause,
        )
        policy.set_paused(
            connection, True, reason=f"rolled back from {now.version}: {reason}", actor=actor
        )
        moved = standing(connection)
        assert moved is not None
        return moved


def _no_way_back(now: Alias | None, to: str | None) -> str:
    before = now.version if now else "any"
    if to is not None:
        return (
            f"production cannot be rolled back to {to}: it did not serve before {before}, or was "
            f"pruned; promote it with `toploss models promote {to}`"
        )
    what = "every version that served" if now and now.below else "no version served"
    return (
        f"production cannot be rolled back: {what} before {before}"
        + (" was pruned; " if now and now.below else "; ")
        + "promote another one with `toploss models promote VERSION`"
    )


def _refuse_stale(now: Alias | None, expected: int | None) -> None:
    generation = now.generation if now else 0
    if expected is not None and generation != expected:
        raise Stale(
            f"production has moved to generation {generation} since {expected} was looked at; "
            "compare with what serves now and ask again",
            present={"generation": generation, "version": now.version if now else None},
        )


def _move(
    connection: Connection,
    generation: int,
    version: str,
    kind: str,
    below: int | None,
    reason: str,
    actor: str,
    cause: str | None = None,
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
            cause=cause,
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
    outbox.put(connection, Type.ROLLED_BACK if kind == "rollback" else Type.PROMOTED, told)


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


def whole(connection: Connection, name: str) -> Version:
    """As `found`. For whoever holds ALIAS: it stays so until the end of the transaction.
    Raises NotFound, Pruned."""
    version = found(connection, name)
    refuse_pruned(version)
    return version


def refuse_pruned(version: Version) -> None:
    """Raises Pruned."""
    if version.pruned_at is not None:
        raise Pruned(
            f"version {version.name} was pruned on {iso(version.pruned_at)[:10]}: its files are "
            "gone, what is known of it stays; take another of `toploss models list`"
        )


def _version(row: Any) -> Version:
    return Version(
        name=row.name,
        run=row.run_id,
        path=row.path,
        manifest=row.manifest,
        manifest_sha256=row.manifest_sha256,
        manifest_name=row.manifest_name,
        created_at=row.created_at,
        pruned_at=row.pruned_at,
    )


def _moved(row: Any) -> Move:
    return Move(
        generation=row.generation,
        version=row.version,
        kind=row.kind,
        reason=row.reason,
        actor=row.actor,
        at=row.at,
        cause=row.cause,
    )

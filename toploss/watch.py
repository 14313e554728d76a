"""A promotion under watch: for some minutes, what the servers say of the new version is held
against what they said of the one before, and production is rolled back by itself when it does not
load, fails to compute, or finds far more images novel.

Whoever looks may look as often as he likes, and several may: the roll-back is a compare-and-swap
on the generation that was judged. What the rules find and how often they are wrong stands in
docs/promotion.md.
"""

import logging
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, func, select

from toploss import chance, models, outcomes, servers, traffic
from toploss.errors import Refused, Stale
from toploss.home import Home
from toploss.models import Alias, Version
from toploss.outcomes import Outcomes
from toploss.schema import alias_moves
from toploss.servers import Server

log = logging.getLogger("toploss.watch")

ACTOR = "watch"
LEVEL = 1e-4  # how often chance alone may look so, per look; looks are many
TIMES = 2.0  # as large as before, a share must be at least
LEAST = 20  # images, below which a share says nothing
BEFORE_H = 24  # hours of the version before that are looked at
FAILING = 0.01  # share of failures that nobody is rolled back for
RISE = 0.1  # by which the share of novel images must have risen: each version has a threshold
HANGING = 5  # times as long as a failure, a server may take to load without a word
DEATHS = 3  # servers that ended without a word while they loaded it


class Cause(StrEnum):
    LOAD = "load"  # it does not load on the servers
    ERRORS = "errors"  # it fails to compute answers
    NOVELTY = "novelty"  # far more images are unlike what it learned


@dataclass(frozen=True, kw_only=True)
class Watched:
    """Production within its watch, as the servers tell it."""

    version: str
    generation: int
    until: float  # when the watch ends; seconds since 1970
    before: str | None  # the version that a roll-back returns to
    servers: int  # that are alive
    answering: int  # of these, with this generation
    stuck: int  # of these, that have not come to it for too long
    now: Outcomes  # of this generation
    then: Outcomes  # of the version before, in its last hours
    cause: Cause | None  # for a roll-back; None: there is none
    why: str  # in words

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


class Watch:
    """Looks, and rolls back. One of these per process."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._told = 0  # the generation that could not be rolled back

    def step(self) -> Alias | None:
        """Roll production back if that has to be; returns where it stands then."""
        found = look(self._home)
        if found is None or found.cause is None:
            return None
        try:
            alias = models.rollback(
                self._home,
                reason=found.why,
                actor=ACTOR,
                expected=found.generation,
                cause=found.cause,
            )
        except Stale:
            return None  # somebody else was faster
        except Refused as exc:
            if found.generation != self._told:
                self._told = found.generation
                log.error("version %s is not fit to serve: %s; %s", found.version, found.why, exc)
            return None
        log.error("rolled back from %s to %s: %s", found.version, alias.version, found.why)
        return alias


def look(home: Home) -> Watched | None:
    """Production under watch; None: it is not, or not any more. A roll-back is not watched."""
    with home.db.read() as connection:
        alias = models.standing(connection)
        if alias is None or alias.kind == "rollback":
            return None
        now, until = servers.clock(connection), alias.at + home.settings.watch_s
        if now >= until:
            return None
        version = models.found(connection, alias.version)
        back = models.below(connection)
        before = None if back is None else models.found(connection, back)
        since = traffic.hour(now) - BEFORE_H
        then = outcomes.of_version(connection, back, since=since) if back else Outcomes()
        ours = outcomes.of_generation(connection, alias.generation)
        heard = servers.listed(connection)
    alive = [server for server in heard if server.alive]
    stuck = [server for server in alive if _stuck(server, alias, home.settings.watch_load_s)]
    found = (
        _unloadable(heard, stuck, alias)
        or _failing(ours, then)
        or (_novel(ours, then) if before and _tell(version, before) else None)
    )
    cause, why = found or (None, _stays(alive, stuck, alias))
    return Watched(
        version=alias.version,
        generation=alias.generation,
        until=until,
        before=back,
        servers=len(alive),
        answering=sum(_answers(server, alias) for server in alive),
        stuck=len(stuck),
        now=ours,
        then=then,
        cause=cause,
        why=why,
    )


def rollbacks(connection: Connection) -> dict[str, int]:
    """How often production was rolled back, by cause; `asked`: by somebody."""
    query = select(alias_moves.c.cause, func.count()).where(alias_moves.c.kind == "rollback")
    counted = dict(map(tuple, connection.execute(query.group_by(alias_moves.c.cause)).all()))
    return {"asked": counted.get(None, 0)} | {cause: counted.get(cause, 0) for cause in Cause}


Found = tuple[Cause, str] | None


def _answers(server: Server, alias: Alias) -> bool:
    return server.standing.generation == alias.generation


def _stuck(server: Server, alias: Alias, patience_s: float) -> bool:
    standing = server.standing
    if standing.wanted != alias.generation or _answers(server, alias):
        return False
    return standing.waits_s >= patience_s * (1 if standing.error else HANGING)


def _stays(alive: list[Server], stuck: list[Server], alias: Alias) -> str:
    """Why a version is not rolled back."""
    if not stuck:
        return "nothing speaks against it"
    elsewhere = sum(_answers(server, alias) for server in alive)
    rest = f"but {elsewhere} answer{'s' * (elsewhere == 1)} with it: look at that server first"
    return f"{_where(alive, stuck)}; {rest if elsewhere else 'the others are still loading it'}"


def _where(alive: list[Server], stuck: list[Server]) -> str:
    longest = max(stuck, key=lambda server: server.standing.waits_s)
    return (
        f"does not load on {len(stuck)} of {len(alive)} servers ({longest.name}), "
        f"for {longest.standing.waits_s:.0f} s by now: {longest.standing.error or servers.STILL}"
    )


def _unloadable(heard: list[Server], stuck: list[Server], alias: Alias) -> Found:
    """Half is enough, where it is more than one: two servers have not the same fault by chance, and
    one of two may have its own."""
    alive = [server for server in heard if server.alive]
    if len(stuck) * 2 > len(alive) or len(stuck) * 2 == len(alive) >= 4:
        return Cause.LOAD, _where(alive, stuck)
    died = [
        server
        for server in heard
        if not server.alive
        and server.standing.wanted == alias.generation
        and not _answers(server, alias)
    ]
    if len(died) >= DEATHS and not any(_answers(server, alias) for server in alive):
        return Cause.LOAD, f"{len(died)} servers ended without a word while they loaded it"
    return None


def _failing(now: Outcomes, then: Outcomes) -> Found:
    if now.asked < LEAST or now.failed < FAILING * now.asked:
        return None
    told = f"fails on {now.failed} of {now.asked} images"
    if then.asked < LEAST:  # little is known of before, but any model computes what it is given
        if chance.more_than(now.failed, now.asked, FAILING) < LEVEL:
            return Cause.ERRORS, told
        return None
    if not _more(now.failed, now.asked, then.failed, then.asked):
        return None
    return Cause.ERRORS, f"{told}; the version before on {then.failed} of {then.asked}"


def _novel(now: Outcomes, then: Outcomes) -> Found:
    if min(now.answers, then.answers) < LEAST:
        return None
    if now.novel / now.answers < then.novel / then.answers + RISE:
        return None
    if not _more(now.novel, now.answers, then.novel, then.answers):
        return None
    return Cause.NOVELTY, (
        f"finds {now.novel} of {now.answers} images novel; the version before "
        f"{then.novel} of {then.answers}"
    )


def _tell(*both: Version) -> bool:
    """Whether they know what is novel: versions of 0.1 do not."""
    return all("novelty" in version.manifest for version in both)


def _more(hits: int, n: int, hits_then: int, n_then: int) -> bool:
    """Whether a share has grown, so far that chance does not make it so."""
    larger = hits * n_then >= TIMES * hits_then * n
    return larger and chance.more_than_before(hits, n, hits_then, n_then) < LEVEL

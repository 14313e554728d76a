"""How the servers stand to production, by their own word. They share nothing but the database, so
it stands there: a row for each, written anew every few seconds. Times are by the database's clock,
and how long something has lasted by the server's own: no two machines' clocks are compared."""

import time
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Connection, Row, select, text

from toploss.schema import servers

ALIVE_S = 30.0  # of silence, after which a server counts as gone
LATE_S = 10.0  # to load a version takes seconds: who takes longer is told of
FORGOTTEN_S = 24 * 3600.0  # likewise, after which its row goes
STILL = "loading has not come to an end"
LONGEST_ERROR = 500  # characters


@dataclass(frozen=True, kw_only=True)
class Standing:
    """Of one server."""

    version: str | None  # that it answers with
    generation: int | None
    wanted: int | None  # generation of production that it knows of
    waits_s: float  # for so long it has not answered with that one; 0: it does
    error: str | None  # why that one does not load, in words


@dataclass(frozen=True, kw_only=True)
class Server:
    """As it was last heard of."""

    name: str
    standing: Standing
    silent_s: float  # since

    @property
    def alive(self) -> bool:
        return self.silent_s <= ALIVE_S

    def as_json(self) -> dict[str, Any]:
        return {"server": self.name, **asdict(self.standing)}


def say(connection: Connection, server: str, name: str, standing: Standing) -> None:
    """Put down how a server stands now."""
    now = clock(connection)
    told = {**asdict(standing), "name": name, "at": now}
    told["error"] = standing.error and _kept(standing.error)
    if not connection.execute(servers.update().where(servers.c.id == server).values(told)).rowcount:
        connection.execute(servers.insert().values(id=server, **told))
        connection.execute(servers.delete().where(servers.c.at < now - FORGOTTEN_S))


def leave(connection: Connection, server: str) -> None:
    """It ends by somebody's wish. One that does not say so was killed."""
    connection.execute(servers.delete().where(servers.c.id == server))


def listed(connection: Connection) -> list[Server]:
    """Those heard of within a day, by name."""
    now = clock(connection)
    rows = connection.execute(select(servers).order_by(servers.c.name, servers.c.id))
    return [_server(row, now) for row in rows]


def behind(connection: Connection, generation: int) -> list[Server]:
    """Those that are alive, and still do not answer with this generation of production; or say why
    they do not."""
    return [
        server
        for server in listed(connection)
        if server.alive
        and server.standing.generation != generation
        and (server.standing.error or server.standing.waits_s >= LATE_S)
    ]


def told(server: Server) -> str:
    """One that is behind, in words."""
    here = server.standing
    why = " ".join((here.error or STILL).split())
    return (
        f"server {server.name} answers with {here.version or 'no version'}, and not with "
        f"production for {here.waits_s:.0f} s: {why}"
    )


def clock(connection: Connection) -> float:
    """The database's, in seconds since 1970: of this machine, where it is a file."""
    if connection.dialect.name != "postgresql":
        return time.time()
    return float(
        connection.execute(text("SELECT extract(epoch FROM clock_timestamp())")).scalar_one()
    )


def _server(row: Row[Any], now: float) -> Server:
    return Server(
        name=row.name,
        silent_s=now - row.at,
        standing=Standing(
            version=row.version,
            generation=row.generation,
            wanted=row.wanted,
            waits_s=row.waits_s,
            error=row.error,
        ),
    )


def _kept(error: str) -> str:
    """Whatever a runtime raises: PostgreSQL keeps no NUL."""
    return error.replace("\0", "")[:LONGEST_ERROR]

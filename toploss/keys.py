"""API keys: who may do what. Only their hashes are stored."""

import hmac
import re
import secrets
import time
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

from sqlalchemy import Row, select

from toploss.blobs import sha256
from toploss.errors import BadInput, BadSettings, NotFound, Refused
from toploss.home import Home
from toploss.schema import facts
from toploss.schema import keys as table

SECRET_BYTES = 32  # so many random ones cannot be guessed, and need no slow hash
PREFIX = "tl_"  # by which scanners for secrets know one
SHORTEST = 20  # characters of a key that somebody made up
NAME = re.compile(r"[A-Za-z0-9][-._A-Za-z0-9]{0,63}")
FROM_FILE = "admin"  # the name of the key in TOPLOSS_ADMIN_KEY_FILE
SIGNING = "session_secret"  # the fact that holds it


class Role(StrEnum):
    """Each may do what the ones before it may."""

    PREDICT = "predict"
    REVIEW = "review"
    ADMIN = "admin"

    def covers(self, needed: "Role") -> bool:
        order = list(Role)
        return order.index(self) >= order.index(needed)


@dataclass(frozen=True, kw_only=True)
class Key:
    """A key without its secret."""

    name: str
    role: Role
    created_at: float
    revoked_at: float | None = None


@dataclass(frozen=True, kw_only=True)
class Ring:
    """The keys in force at a moment."""

    keys: dict[str, Key]  # by the SHA-256 of the secret
    ever: bool  # whether there ever was one: then nobody comes in without

    def holder(self, secret: str) -> Key | None:
        """Whose key it is. It takes as long for a wrong one as for a right one."""
        digest, found = sha256(secret.encode()), None
        for known, key in self.keys.items():
            if hmac.compare_digest(known, digest):
                found = key
        return found

    @classmethod
    def load(cls, home: Home, *, again: bool = False) -> Self:
        """From the database and from TOPLOSS_ADMIN_KEY_FILE.

        Args:
            again: by who has seen the file before: one that is gone by now takes its key with it.
                So does one that is missing where the database has keys, or had.

        Raises:
            BadSettings: the file cannot be read, or holds no key.
        """
        with home.db.read() as connection:
            rows = connection.execute(select(table)).all()
        found = {row.sha256: _key(row) for row in rows if row.revoked_at is None}
        given = _from_file(home, may_be_gone=again or bool(rows))
        if given is not None:
            found[sha256(given.encode())] = Key(name=FROM_FILE, role=Role.ADMIN, created_at=0.0)
        return cls(keys=found, ever=bool(rows) or given is not None)


def create(home: Home, name: str, role: str) -> str:
    """Make a key; returns its secret, which is shown this once.

    Raises:
        BadInput: no such role, or a name that cannot be one. Refused: the name is taken; also a
        revoked key keeps its name, which stands in the trail of decisions.
    """
    if not NAME.fullmatch(name):
        raise BadInput(
            f"key name {name[:80]!r} is not usable; take up to 64 letters, digits, `-`, `_`, `.`"
        )
    if role not in list(Role):
        raise BadInput(f"role {role[:40]!r} is none of {', '.join(Role)}")
    secret = PREFIX + secrets.token_urlsafe(SECRET_BYTES)
    with home.db.write() as connection:
        taken = connection.execute(select(table).where(table.c.name == name)).first()
        if taken is not None or name == FROM_FILE:
            raise Refused(f"there is or was a key {name!r}; take another name")
        connection.execute(
            table.insert().values(
                name=name, role=role, sha256=sha256(secret.encode()), created_at=time.time()
            )
        )
    return secret


def revoke(home: Home, name: str) -> None:
    """The key is refused from now on; by running services within seconds.

    Raises:
        NotFound. Refused: it was revoked before.
    """
    with home.db.write() as connection:
        row = connection.execute(select(table).where(table.c.name == name)).first()
        if row is None:
            raise NotFound(f"there is no key {name[:80]!r}; `toploss keys list` shows them")
        if row.revoked_at is not None:
            raise Refused(f"key {name!r} was revoked before")
        connection.execute(
            table.update().where(table.c.name == name).values(revoked_at=time.time())
        )


def listed(home: Home) -> list[Key]:
    """All of the database's, oldest first, the revoked ones too."""
    with home.db.read() as connection:
        rows = connection.execute(select(table).order_by(table.c.created_at, table.c.name)).all()
    return [_key(row) for row in rows]


def session_secret(home: Home) -> bytes:
    """What sessions are signed with: one for all servers on this database, made when it is first
    asked for."""
    with home.db.write() as connection:
        query = select(facts.c.value).where(facts.c.key == SIGNING)
        value = connection.execute(query).scalar()
        if value is None:
            value = secrets.token_hex(SECRET_BYTES)
            connection.execute(facts.insert().values(key=SIGNING, value=value))
    return bytes.fromhex(str(value))


def _key(row: Row[Any]) -> Key:
    return Key(
        name=row.name,
        role=Role(row.role),
        created_at=row.created_at,
        revoked_at=row.revoked_at,
    )


def _from_file(home: Home, *, may_be_gone: bool) -> str | None:
    path = home.settings.admin_key_file
    if path is None or (may_be_gone and not path.exists()):
        return None
    try:
        secret = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as exc:
        raise BadSettings(
            f"TOPLOSS_ADMIN_KEY_FILE={str(path)!r} cannot be read ({exc}); correct the path"
        ) from exc
    if len(secret) < SHORTEST:
        raise BadSettings(
            f"TOPLOSS_ADMIN_KEY_FILE={str(path)!r} holds {len(secret)} characters, and a key has "
            f"{SHORTEST} or more; `openssl rand -hex 32` makes one"
        )
    return secret

"""API keys: who may do what. Only their hashes are stored."""

import hmac
import re
import secrets
import time
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Self

from sqlalchemy import Row, select

from toploss.blobs import sha256
from toploss.errors import BadInput, BadSettings, NotFound, Refused
from toploss.home import Home
from toploss.schema import facts
from toploss.schema import keys as table
from toploss.settings import Settings

SECRET_BYTES = 32  # so many random ones cannot be guessed, and need no slow hash
PREFIX = "tl_"  # by which scanners for secrets know one
SHORTEST = 20  # characters of a key that somebody made up
NAME = re.compile(r"[A-Za-z0-9][-._A-Za-z0-9]{0,63}")
HASH = re.compile(r"[0-9a-f]{64}")
FROM_FILE = "admin"  # the name of the key in TOPLOSS_ADMIN_KEY_FILE
# Behind the name of a file's key, where the database has or had one of that name: what either has
# decided is told apart. No name that somebody gives has an @.
OF_FILE = "@file"
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
        """From the database and from the files of the settings. A file's key with a name that the
        database has, or had, is called `NAME@file`.

        Args:
            again: by who has seen the files before: one that is gone by now takes its keys with
                it. So does one that is missing where the database has keys, or had.

        Raises:
            BadSettings: a file cannot be read, or holds no key.
        """
        with home.db.read() as connection:
            rows = connection.execute(select(table)).all()
        stored = {row.sha256: _key(row) for row in rows if row.revoked_at is None}
        given = cls.of_files(home.settings, may_be_gone=again or bool(rows))
        taken = {row.name for row in rows}
        others = {
            digest: replace(key, name=key.name + OF_FILE) if key.name in taken else key
            for digest, key in given.keys.items()
        }
        return cls(keys=stored | others, ever=bool(rows) or given.ever)

    @classmethod
    def of_files(cls, settings: Settings, *, may_be_gone: bool = False) -> Self:
        """From TOPLOSS_ADMIN_KEY_FILE and TOPLOSS_KEYS_FILE alone. Raises BadSettings."""
        found: dict[str, Key] = {}
        given = False  # a file from which every line was taken lets nobody in, not everybody
        files = (settings.admin_key_file, _admins), (settings.keys_file, _hashed)
        for path, read in files:
            if path is not None and not (may_be_gone and not path.exists()):
                found |= read(path)
                given = True
        return cls(keys=found, ever=given)


def create(home: Home, name: str, role: str) -> str:
    """Make a key; returns its secret, which is shown this once.

    Raises:
        BadInput: no such role, or a name that cannot be one. Refused: the name is taken, here or in
        TOPLOSS_KEYS_FILE; also a revoked key keeps its name, which stands in the trail of
        decisions. BadSettings: that file cannot be read as keys.
    """
    _refuse_wrong(name, role)
    file = home.settings.keys_file
    if file is not None and file.exists() and name in {key.name for key in _hashed(file).values()}:
        raise Refused(f"there is a key {name!r} in {file}; take another name, or remove its line")
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


def create_in_file(path: Path, name: str, role: str) -> str:
    """As `create`, as a line at the end of a file of TOPLOSS_KEYS_FILE, which may be missing.

    Raises:
        BadInput. BadSettings: what is there cannot be read as keys, or the line not be written.
        Refused: the file has the name.
    """
    _refuse_wrong(name, role)
    known = _hashed(path) if path.exists() else {}
    if name == FROM_FILE or any(key.name == name for key in known.values()):
        raise Refused(f"there is a key {name!r}; take another name, or remove its line")
    secret = PREFIX + secrets.token_urlsafe(SECRET_BYTES)
    try:
        with path.open("a+", encoding="utf-8") as file:
            file.seek(0)
            before = file.read()
            if before and not before.endswith("\n"):  # somebody's editor
                file.write("\n")
            file.write(f"{name} {role} {sha256(secret.encode())}\n")
    except OSError as exc:
        raise BadSettings(f"{path} cannot be written ({exc}); take another file") from exc
    return secret


def _refuse_wrong(name: str, role: str) -> None:
    if not NAME.fullmatch(name):
        raise BadInput(
            f"key name {name[:80]!r} is not usable; take up to 64 letters, digits, `-`, `_`, `.`"
        )
    if role not in list(Role):
        raise BadInput(f"role {role[:40]!r} is none of {', '.join(Role)}")


def _admins(path: Path) -> dict[str, Key]:
    """The key in TOPLOSS_ADMIN_KEY_FILE."""
    secret = _text(path, "TOPLOSS_ADMIN_KEY_FILE").strip()
    if len(secret) < SHORTEST:
        raise BadSettings(
            f"TOPLOSS_ADMIN_KEY_FILE={str(path)!r} holds {len(secret)} characters, and a key has "
            f"{SHORTEST} or more; `openssl rand -hex 32` makes one"
        )
    return {sha256(secret.encode()): Key(name=FROM_FILE, role=Role.ADMIN, created_at=0.0)}


def _hashed(path: Path) -> dict[str, Key]:
    """The keys in TOPLOSS_KEYS_FILE."""
    found: dict[str, Key] = {}
    for number, line in enumerate(_text(path, "TOPLOSS_KEYS_FILE").splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        words = line.split()
        if len(words) != 3 or not NAME.fullmatch(words[0]) or not HASH.fullmatch(words[2]):
            raise BadSettings(
                f"TOPLOSS_KEYS_FILE={str(path)!r}, line {number}, is not NAME ROLE SHA256; "
                "`toploss keys create NAME --role ROLE --file FILE` adds such a line"
            )
        name, role, digest = words
        if role not in list(Role):
            raise BadSettings(
                f"TOPLOSS_KEYS_FILE={str(path)!r}, line {number}: role {role[:40]!r} is none of "
                f"{', '.join(Role)}; correct it"
            )
        found[digest] = Key(name=name, role=Role(role), created_at=0.0)
    return found


def _text(path: Path, setting: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise BadSettings(
            f"{setting}={str(path.absolute())!r} cannot be read ({exc}); correct the path"
        ) from exc

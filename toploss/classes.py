"""The classes: stable ids behind names that people may change."""

import time
import unicodedata
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, func, select

from toploss.errors import BadInput, NotFound, Refused, UnknownLabel
from toploss.home import Home
from toploss.quarantine import TAKES_PART
from toploss.schema import class_events, classes, samples

LONGEST_NAME = 200  # characters; the column's width


@dataclass(frozen=True)
class Classes:
    """The classes as one transaction sees them."""

    names: dict[int, str]  # id → today's name; a merged class answers with the one it joined
    ids: dict[str, int]  # name → id; a merged class's name leads to the one it joined
    open: tuple[str, ...]  # names that a label may have today, sorted

    def id_of(self, label: str) -> int:
        """Raises UnknownLabel."""
        found = next((self.ids[name] for name in _spellings(label) if name in self.ids), None)
        if found is None:
            raise UnknownLabel(
                f"label {label!r} is not one of the {len(self.open)} classes; "
                f"add it with `toploss classes add {label}` or correct the label"
            )
        return found


def load(connection: Connection) -> Classes:
    """The classes as this transaction sees them."""
    rows = connection.execute(select(classes.c.id, classes.c.name, classes.c.merged_into)).all()
    own = {row.id: row.name for row in rows}
    return Classes(
        names={row.id: own[row.merged_into or row.id] for row in rows},
        ids={row.name: row.merged_into or row.id for row in rows},
        open=tuple(sorted(row.name for row in rows if row.merged_into is None)),
    )


def ensure(connection: Connection, name: str, actor: str) -> int:
    """The id of the class of this name, added if there is none.

    Raises:
        BadInput: when it cannot be a class name.
    """
    name = checked(name)
    found = connection.execute(
        select(classes.c.id, classes.c.merged_into)
        .where(classes.c.name.in_(_spellings(name)))
        .order_by(classes.c.name != name)
    ).first()
    if found:
        return int(found.merged_into or found.id)
    now = time.time()
    new = connection.execute(classes.insert().values(name=name, added_at=now)).inserted_primary_key
    assert new is not None
    record(connection, new[0], "add", None, name, actor)
    return int(new[0])


def add(home: Home, name: str, *, actor: str) -> bool:
    """Add a class; False when there is one of that name already."""
    with home.db.write() as connection:
        before = len(load(connection).ids)
        ensure(connection, name, actor)
        return len(load(connection).ids) > before


def rename(home: Home, old: str, new: str, *, actor: str) -> None:
    """Give a class another name. Versions go on answering with the names they were published with.

    Raises:
        NotFound: no class `old`. Refused: there is a class `new` already.
    """
    new = checked(new)
    with home.db.write() as connection:
        class_id = find(connection, old)
        known = load(connection)
        if new in known.ids and new not in known.open:
            raise Refused(
                f"the name {new!r} leads to {known.names[known.ids[new]]!r}, which it was merged "
                "into; give another name"
            )
        if new in known.ids:
            raise Refused(
                f"there is a class {new!r} already; to make the two one, "
                f"run `toploss classes merge {old} {new}`"
            )
        connection.execute(classes.update().where(classes.c.id == class_id).values(name=new))
        record(connection, class_id, "rename", old, new, actor)


def listed(home: Home) -> list[dict[str, Any]]:
    """Each class with its number of active samples, sorted by name."""
    with home.db.read() as connection:
        rows = connection.execute(
            select(classes.c.id, classes.c.name, func.count(samples.c.seq).label("samples"))
            .select_from(
                classes.outerjoin(samples, (samples.c.class_id == classes.c.id) & TAKES_PART)
            )
            .where(classes.c.merged_into.is_(None))
            .group_by(classes.c.id, classes.c.name)
            .order_by(classes.c.name)
        ).all()
    return [{"id": row.id, "name": row.name, "samples": row.samples} for row in rows]


def checked(name: str) -> str:
    """The name without surrounding blanks, composed. Raises BadInput when it cannot be a class."""
    name = composed(name.strip())
    if not name or len(name) > LONGEST_NAME or not name.isprintable():
        raise BadInput(
            f"{name[:40]!r} cannot name a class; "
            f"give 1 to {LONGEST_NAME} printable characters on one line"
        )
    return name


def composed(name: str) -> str:
    """The name in Unicode's form NFC. A Mac's folders and zips spell `é` as an `e` and an accent:
    to whoever reads them the two are one class."""
    return unicodedata.normalize("NFC", name)


def _spellings(name: str) -> tuple[str, ...]:
    """The name, and as it may stand here: composed, or not, from before names were."""
    return name, composed(name), unicodedata.normalize("NFD", name)


def find(connection: Connection, name: str) -> int:
    """The id of a class that is not merged away. Raises NotFound."""
    found = connection.execute(
        select(classes.c.id)
        .where(classes.c.name.in_(_spellings(name)) & classes.c.merged_into.is_(None))
        .order_by(classes.c.name != name)
    ).scalar()
    if found is None:
        raise NotFound(f"there is no class {name!r}; `toploss classes list` shows them")
    return int(found)


def record(
    connection: Connection, class_id: int, kind: str, before: str | None, after: str, actor: str
) -> None:
    """Write an event: add, rename or merge."""
    connection.execute(
        class_events.insert().values(
            class_id=class_id, kind=kind, before=before, after=after, actor=actor, at=time.time()
        )
    )

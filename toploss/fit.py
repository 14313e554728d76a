"""Whether this code and a database go together: two releases run side by side while one takes the
other's place.

Migrations expand first, and contract a release later. Each says what the oldest code is that may
still use the database; `upgrades` has what they said.
"""

import time
from dataclasses import dataclass

from sqlalchemy import Connection, func, inspect, select, text

from toploss.schema import REVISION, sample_events, upgrades


@dataclass(frozen=True, kw_only=True)
class Fit:
    """How a database stands to this release's tables."""

    found: str | None  # its revision; None: it has none
    oldest: str | None  # the oldest code that may use it, by its own word; None: it says nothing

    @property
    def newer(self) -> bool:
        """A later release has upgraded it."""
        return self.found is not None and self.found > REVISION  # they are numbered: "0001", …

    @property
    def usable(self) -> bool:
        """It is this release's, or a newer one's that lets this release in."""
        beside = self.newer and self.oldest is not None and self.oldest <= REVISION
        return self.found == REVISION or beside

    def told(self, database: object) -> str:
        """In words, where it is not this release's own."""
        if self.usable:
            return (
                f"the database {database} has schema {self.found!r}, newer than this release's "
                f"{REVISION!r}, which may use it beside the newer one; upgrade this process soon"
            )
        remedy = "use the newer release that made it" if self.newer else "run `toploss db upgrade`"
        return (
            f"the database {database} has schema {self.found!r}, this release needs {REVISION!r}; "
            f"{remedy}"
        )


def of(connection: Connection) -> Fit:
    """How a database stands to this code; an empty one has no schema."""
    there = inspect(connection)
    if not there.has_table("alembic_version"):
        return Fit(found=None, oldest=None)
    found = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    oldest = None
    if there.has_table(upgrades.name):  # not before 0015
        made = select(upgrades.c.min_compatible).where(upgrades.c.revision == found)
        oldest = connection.execute(made).scalar()
    return Fit(found=found, oldest=oldest)


def note(connection: Connection, revision: str, oldest: str) -> None:
    """A database was upgraded; whatever was in arrears stays so."""
    before = connection.execute(select(func.max(upgrades.c.events_told))).scalar()
    newest = select(func.coalesce(func.max(sample_events.c.seq), 0))
    told = before if before is not None else connection.execute(newest).scalar_one()
    row = {"revision": revision, "min_compatible": oldest, "at": time.time(), "events_told": told}
    connection.execute(upgrades.insert().values(row))

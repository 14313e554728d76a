"""The samples that were erased, as a file: what a back-up from before it has to forget again."""

import csv
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import select

from toploss import erasure, tables, times
from toploss.erasure import Tombstone
from toploss.errors import BadInput, NotFound
from toploss.home import Home
from toploss.schema import erasures, samples

COLUMNS = ("id", "reason", "actor", "at")


@dataclass(frozen=True, kw_only=True)
class Replayed:
    """What came of a file of tombstones."""

    erased: int
    before: int  # were erased already
    unknown: int  # no such samples are here
    doubt: str | None = None  # of an erasure, as `Tombstone` has it


def listed(home: Home) -> list[Tombstone]:
    """Every one, oldest first."""
    columns = samples.c.id, erasures.c.reason, erasures.c.actor, erasures.c.at, erasures.c.ended_at
    query = select(*columns).join_from(erasures, samples, samples.c.seq == erasures.c.sample_seq)
    with home.db.read() as connection:
        rows = connection.execute(query.order_by(erasures.c.at, erasures.c.sample_seq))
        return [Tombstone(**row._asdict()) for row in rows]


def as_csv(stones: Iterable[Tombstone]) -> Iterator[str]:
    """Line by line, with a header; what `replay` reads."""
    rows = ((stone.id, stone.reason, stone.actor, times.iso(stone.at)) for stone in stones)
    for row in (COLUMNS, *rows):
        line = io.StringIO()
        csv.writer(line, lineterminator="\n").writerow(map(tables.cell, row))
        yield line.getvalue()


def replay(home: Home, file: Path, *, actor: str) -> Replayed:
    """Erase what the file names and is still here, now: of its columns, `id` and `reason` are read,
    and no others, so that files with times of any kind will do.

    Raises:
        BadInput: the file cannot be read, or a row is no tombstone; nothing was erased.
        Broken: as `erasure.erase`; what was erased until then is.
    """
    stones = list(_read(file))
    erased = before = unknown = 0
    doubt = None
    for sample_id, reason in stones:
        if erasure.of(home, sample_id) is not None:
            before += 1
            continue
        try:
            doubt = erasure.erase(home, sample_id, reason=reason, actor=actor).doubt or doubt
            erased += 1
        except NotFound:
            unknown += 1
    return Replayed(erased=erased, before=before, unknown=unknown, doubt=doubt)


def _read(file: Path) -> Iterator[tuple[str, str]]:
    try:
        with file.open("rb") as opened:
            for number, row in tables.read(opened):
                if isinstance(row, str):
                    raise BadInput(f"row {number} of {file}: {row}")
                yield _text(row, "id", number, file), _text(row, "reason", number, file)
    except OSError as exc:
        raise BadInput(f"{file} cannot be read ({exc.strerror}); name another file") from exc


def _text(row: dict[str, Any], name: str, number: int, file: Path) -> str:
    value = row.get(name)
    if not isinstance(value, str) or not value.strip():
        raise BadInput(
            f"row {number} of {file} has no {name}; give the file that `toploss samples erased` "
            "wrote"
        )
    return erasure.checked(value) if name == "reason" else value.strip()

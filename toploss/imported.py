"""Decisions that were made elsewhere, taken in: the newest of each sample, as ordinary events.

Every decision has a key made of what it says, so that the same file again changes nothing, and so
that what was taken back here after it was imported does not come back with it. What goes against
what stands here, unseen by whoever decided elsewhere, is told and left alone.
"""

import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, BinaryIO, TypeVar
from urllib.parse import unquote

from sqlalchemy import Connection, Row, select

from toploss import classes, decisions, elsewhere, times
from toploss.classes import Classes
from toploss.decisions import Decided, Decision
from toploss.elsewhere import Format, Said, Unread
from toploss.errors import BadInput, Stale, TooLarge
from toploss.events import Kind
from toploss.home import Home
from toploss.schema import idempotency, sample_events, samples
from toploss.splits import Split

MOST_ROWS = 200_000  # decisions of one file: they are in memory together, to find the newest
AT_ONCE = 200  # rows of one look at the database
IN_A_TRANSACTION = 50  # decisions: reviewers wait for no more of them
MOST_TOLD = 1000  # rows of a kind that are told one by one
LONGEST_REASON = 500  # characters

SHA256 = re.compile(r"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")
UPLOADED = re.compile(r"^[0-9a-f]{8}-(?=.)")  # what Label Studio puts before a file's name

T = TypeVar("T")


@dataclass
class Summary:
    """What became of the rows of a file."""

    format: str = ""
    dry_run: bool = False  # nothing was recorded; `recorded` would have been
    recorded: int = 0
    known: int = 0  # imported before, or just what stands here
    superseded: int = 0  # taken back, replaced or repeated by other rows
    undecided: int = 0  # nobody has said anything
    conflicts: list[dict[str, Any]] = field(default_factory=list)  # row, sample, reason; the first
    conflicts_total: int = 0
    refused: list[dict[str, Any]] = field(default_factory=list)  # row, reason; the first
    refused_total: int = 0

    def conflict(self, row: int, sample: str, reason: str) -> None:
        self.conflicts_total += 1
        if len(self.conflicts) < MOST_TOLD:
            self.conflicts.append({"row": row, "sample": sample, "reason": reason[:LONGEST_REASON]})

    def refuse(self, row: int, reason: str) -> None:
        self.refused_total += 1
        if len(self.refused) < MOST_TOLD:
            self.refused.append({"row": row, "reason": reason[:LONGEST_REASON]})

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def take_in(
    home: Home,
    file: BinaryIO,
    *,
    actor: str,
    format: Format = Format.AUTO,
    dry_run: bool = False,
    force: bool = False,
) -> Summary:
    """Record what a file says that people have decided.

    Args:
        file: that can be sought in.
        actor: who imports it; who decided stands in the events' evidence.
        dry_run: only tell what would become of it.
        force: also what goes against what stands here, and what was taken back since it was
            imported.

    Raises:
        BadInput: the file cannot be read, or has no decision. TooLarge: it has too many. Nothing
            is recorded then.
    """
    found, rows = elsewhere.read(file, format)
    summary = Summary(format=found.value, dry_run=dry_run)
    said = _leave_out_known(home, _said(rows, summary), summary)
    said = _leave_out_taken_back(home, said, summary)
    chosen = list(_newest(home, said, summary))
    for some in _slices(chosen, IN_A_TRANSACTION):
        _settle(home, some, summary, actor=actor, force=force)
        if not dry_run:
            home.db.give_way()  # to reviewers
    return summary


def _said(rows: Iterable[elsewhere.Understood], summary: Summary) -> list[Said]:
    said = []
    for row in rows:
        if row is None:
            summary.undecided += 1
        elif isinstance(row, Unread):
            summary.refuse(row.row, row.reason)
        else:
            said.append(row)
            if len(said) > MOST_ROWS:
                raise TooLarge(
                    f"the file has more than {MOST_ROWS:,} decisions; send it in parts, the oldest "
                    "first"
                )
    return said


def _leave_out_known(home: Home, said: list[Said], summary: Summary) -> list[Said]:
    """Our own events, come home."""
    here: set[str | None] = set()
    with home.db.read() as connection:
        for some in _slices([one.event for one in said if one.event], AT_ONCE):
            query = select(sample_events.c.id).where(sample_events.c.id.in_(some))
            here.update(connection.execute(query).scalars())
    summary.known += sum(one.event in here for one in said)
    return [one for one in said if one.event not in here]


def _leave_out_taken_back(home: Home, said: list[Said], summary: Summary) -> list[Said]:
    """Undos, and what they took back. An import takes nothing back itself."""
    undos = [one for one in said if one.action == Kind.UNDO]
    undone = {one.undoes for one in undos}
    with home.db.read() as connection:
        for some in _slices(undos, AT_ONCE):
            standing = _standing_here(connection, some)
            for one in some:
                if (event := standing.get(one.undoes)) is None:
                    summary.superseded += 1
                    continue
                summary.conflict(
                    one.row,
                    one.image,
                    f"decision {one.undoes} was taken back where it was made, and stands here; "
                    f"take {event} back here too, or leave it",
                )
    rest = [one for one in said if one.action != Kind.UNDO]
    summary.superseded += sum(one.event in undone for one in rest if one.event)
    return [one for one in rest if one.event is None or one.event not in undone]


def _standing_here(connection: Connection, undos: Sequence[Said]) -> dict[str | None, str]:
    """What they took back, and the event as which it stands here: itself, or as it was imported."""
    keys = {_key_of_event(one.image, one.undoes): one.undoes for one in undos}
    query = select(idempotency.c.key, idempotency.c.answer).where(idempotency.c.key.in_(keys))
    events = {one.undoes: one.undoes for one in undos}
    events |= {row.answer["id"]: keys[row.key] for row in connection.execute(query)}
    standing = (
        select(sample_events.c.id)
        .join(samples, samples.c.id == sample_events.c.sample_id)
        .where(sample_events.c.id.in_(events), samples.c.decision_id == sample_events.c.id)
    )
    return {events[event]: event for event in connection.execute(standing).scalars()}


def _newest(home: Home, said: list[Said], summary: Summary) -> Iterator[tuple[str, Said]]:
    """The samples with what counts of each: the newest, where people do not contradict."""
    of_sample: dict[str, list[Said]] = defaultdict(list)
    for some in _slices(said, AT_ONCE):
        with home.db.read() as connection:
            for one in some:
                try:
                    of_sample[_sample_of(connection, one.image)].append(one)
                except BadInput as exc:
                    summary.refuse(one.row, str(exc))
    for sample, rows in of_sample.items():
        # Whose times are not all known are taken in the file's order.
        by_time = all(one.at is not None for one in rows)
        rows.sort(key=lambda one: ((one.at, one.revision or 0) if by_time else (), one.row))
        summary.superseded += len(rows) - 1
        if unclear := _unclear(rows):
            summary.conflict(rows[-1].row, sample, f"{unclear}; decide it in the review")
        else:
            yield sample, rows[-1]


def _unclear(rows: list[Said]) -> str | None:
    """Why people who were asked the same have not answered it together; `rows`: oldest first."""
    answers = {one.by: one for one in rows if one.votes}.values()  # the last of each
    if several := next((one.unclear for one in answers if one.unclear), None):
        return several
    labels = sorted({str(one.label) for one in answers})
    return f"people disagree: {', '.join(map(repr, labels))}"[:300] if len(labels) > 1 else None


def _sample_of(connection: Connection, image: str) -> str:
    """The id of the sample that an image's reference means: never fetched, only read.

    Raises:
        BadInput: none, or several.
    """
    if found := SHA256.search(image.lower()):
        query = select(samples.c.id).where(samples.c.id == found.group())
        if connection.execute(query).first() is None:
            raise BadInput(f"there is no sample {found.group()}; import its image first")
        return found.group()
    for name in _names(image):
        query = select(samples.c.id).where(samples.c.name == name).limit(2)
        several = connection.execute(query).scalars().all()
        if len(several) > 1:
            raise BadInput(
                f"several samples are called {name[:80]!r}; say which by its id, in a column "
                "`sample`"
            )
        if several:
            return str(several[0])
    raise BadInput(
        f"no sample is called {image[-80:]!r}; import the image first, or give its id in a "
        "column `sample`"
    )


def _names(image: str) -> list[str]:
    """The file names that a reference may mean, the likeliest first."""
    path = image.rpartition("?d=")[2] if "?d=" in image else image  # Label Studio's local files
    plain = path.replace("\\", "/").rpartition("/")[2]
    address = unquote(plain.partition("?")[0].partition("#")[0])
    names = dict.fromkeys([plain, address, UPLOADED.sub("", address)])
    return [name for name in names if name and "\0" not in name]


def _settle(
    home: Home, chosen: Sequence[tuple[str, Said]], summary: Summary, *, actor: str, force: bool
) -> None:
    """Record those that may be recorded."""
    wanted: list[tuple[Said, Decision]] = []
    with home.db.read() as connection:
        here = _Here.load(connection, chosen)
    for sample, said in chosen:
        try:
            decision = here.decision(sample, said, summary.format, force=force)
        except Stale as exc:
            summary.conflict(said.row, sample, str(exc))
        except BadInput as exc:
            summary.refuse(said.row, str(exc))
        else:
            summary.known += decision is None
            if decision is not None:
                wanted.append((said, decision))
    if summary.dry_run:
        summary.recorded += len(wanted)
        return
    answers = decisions.decide_all(home, [decision for _, decision in wanted], actor=actor)
    for (said, decision), answer in zip(wanted, answers, strict=True):
        if isinstance(answer, Decided):
            summary.recorded += 1
        elif isinstance(answer, Stale):
            summary.conflict(said.row, decision.sample, str(answer))
        else:
            summary.refuse(said.row, str(answer))


@dataclass(frozen=True, kw_only=True)
class _Here:
    """What stands here of some samples."""

    known: Classes
    rows: dict[str, Row[Any]]  # by the sample's id
    decided: dict[str, Row[Any]]  # the standing decisions, by their event's id
    imported: frozenset[str]  # keys

    @classmethod
    def load(cls, connection: Connection, chosen: Sequence[tuple[str, Said]]) -> "_Here":
        query = select(samples).where(samples.c.id.in_([sample for sample, _ in chosen]))
        rows = {row.id: row for row in connection.execute(query)}
        standing = [row.decision_id for row in rows.values() if row.decision_id]
        events = select(sample_events).where(sample_events.c.id.in_(standing))
        keys = select(idempotency.c.key).where(idempotency.c.key.in_([_key(*c) for c in chosen]))
        return cls(
            known=classes.load(connection),
            rows=rows,
            decided={event.id: event for event in connection.execute(events).all()},
            imported=frozenset(connection.execute(keys).scalars()),
        )

    def decision(self, sample: str, said: Said, whence: str, *, force: bool) -> Decision | None:
        """What to record; None: it is known.

        Raises:
            Stale: it goes against what stands here. BadInput: it says nothing that can be done.
        """
        row, key = self.rows.get(sample), _key(sample, said)
        if row is None:
            raise Stale("the sample is gone; import its image again")
        if key in self.imported and not force:
            return None
        action, label = self._meant(row, said, force=force)
        if self._stands(row, action, label):
            return None
        if not force:
            if row.split == Split.TEST:
                raise Stale(
                    "it is in test, which is corrected blind, in a queue of its own: "
                    "GET /v1/blind?queue=holdout"
                )
            self._check_seen(row, said)
        return Decision(
            sample=sample,
            action=action,
            label=label,
            revision=row.revision,
            # Whoever forces it has it recorded again, at this state once.
            key=f"{key}:{row.revision}" if force else key,
            imported={
                "from": whence,
                "by": said.by and "".join(filter(str.isprintable, said.by))[:200],
                "at": None if said.at is None else times.iso(said.at),
            },
        )

    def _meant(self, row: Row[Any], said: Said, *, force: bool) -> tuple[str, str | None]:
        """Action and label, the label where the action has one."""
        if said.action in (Kind.EXCLUDE, Kind.SKIP):
            return said.action, None
        today = self.known.names[row.class_id]
        if said.label is None:
            if said.action == Kind.CONFIRM:
                return said.action, None
            raise BadInput("a relabel needs the right `label`; fill it in")
        same = self.known.id_of(said.label) == row.class_id
        if said.action == Kind.CONFIRM and not same and not force:
            raise Stale(f"it confirms {said.label!r}, and the sample is {today!r} today; {LOOK}")
        if same and said.action != Kind.RELABEL:
            return Kind.CONFIRM, None
        return Kind.RELABEL, said.label

    def _stands(self, row: Row[Any], action: str, label: str | None) -> bool:
        """Whether just this was decided here, and stands."""
        if action in (Kind.EXCLUDE, Kind.SKIP):
            return bool(row.decision == action)
        same = label is None or self.known.id_of(label) == row.class_id
        return row.decision in (Kind.CONFIRM, Kind.RELABEL) and same

    def _check_seen(self, row: Row[Any], said: Said) -> None:
        """Whoever decided elsewhere has to have known what stands here. Raises Stale."""
        today = self.known.names[row.class_id]
        if said.seen is not None and said.seen != row.revision:
            raise Stale(f"it saw revision {said.seen}, and the sample is at {row.revision}; {LOOK}")
        if said.before is not None and self.known.ids.get(said.before) != row.class_id:
            raise Stale(f"it saw the label {said.before!r}, and the sample is {today!r}; {LOOK}")
        decided = self.decided.get(row.decision_id or "")
        if decided is None or row.decision == Kind.SKIP or said.seen is not None:
            return
        later = said.at > decided.at if said.at is not None else said.before is not None
        if not later:
            raise Stale(
                f"{decided.actor} has decided it here ({row.decision}, as {today!r}, at "
                f"{times.iso(decided.at)}), and the file's is not known to be later; {LOOK}"
            )


LOOK = "look at it in the review, or force it"


def _key(sample: str, said: Said) -> str:
    """What makes a decision this one: our event's id, or else all that it says."""
    if said.event:
        return _key_of_event(sample, said.event)
    return _hashed(sample, said.action, said.label, said.before, said.seen, said.by, said.at)


def _key_of_event(sample: str, event: str | None) -> str:
    return _hashed(sample.lower(), event)


def _hashed(*parts: Any) -> str:
    return "import:" + hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _slices(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]

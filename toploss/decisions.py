"""What reviewers say of samples, and that they take it back."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Connection, Row, select

from toploss import classes, events, holdout, idempotency, losses, questions
from toploss.database import one_at_a_time
from toploss.errors import BadInput, NotFound, Stale, ToplossError
from toploss.events import ACTIONS, Kind, Standing
from toploss.home import Home
from toploss.ids import new_id
from toploss.orders import Order
from toploss.schema import claims, sample_events, samples
from toploss.settings import Settings


@dataclass(frozen=True, kw_only=True)
class Decided:
    """The answer to a decision or an undo."""

    id: str  # the event's
    sample: str
    revision: int  # the sample's, after it


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What a reviewer says of one sample."""

    sample: str  # its id
    action: str  # confirm, relabel, exclude or skip
    revision: int  # the sample's, as the reviewer saw it
    label: str | None = None  # of a relabel: the class it belongs to
    key: str | None = None  # the caller's idempotency key; see `decide`
    order: Order = Order.LOSS  # of the list that the reviewer saw it in
    rank: int | None = None  # its place there, from 1
    seconds: float | None = None  # that the reviewer looked at it
    imported: dict[str, Any] | None = None  # of one made elsewhere: whence, by whom, when
    blind: str | None = None  # the queue that showed no label: a relabel to the same confirms it


def decide(
    home: Home,
    sample_id: str,
    action: str,
    *,
    revision: int,
    actor: str,
    label: str | None = None,
    key: str | None = None,
    **seen: Any,
) -> Decided:
    """Record a decision on what the reviewer saw: confirm, relabel, exclude or skip.

    Args:
        revision: the sample's revision that the reviewer saw.
        label: of a relabel: the class it belongs to.
        key: the caller's idempotency key; the same key again gives the same answer and changes
            nothing.
        seen: `order`, `rank` and `seconds` of `Decision`.

    Raises:
        BadInput: no such action, or a label where none belongs or none where one does.
        UnknownLabel, NotFound, Erased.
        Stale: the sample has changed since, with its present state; nothing is recorded.
    """
    decision = Decision(
        sample=sample_id, action=action, revision=revision, label=label, key=key, **seen
    )
    (answer,) = decide_all(home, [decision], actor=actor)
    if isinstance(answer, ToplossError):
        raise answer
    return answer


def decide_all(
    home: Home, decisions: Sequence[Decision], *, actor: str
) -> list[Decided | ToplossError]:
    """Record several decisions in one transaction, in order; one that cannot be recorded spoils no
    other.

    Returns:
        For each what `decide` returns, or what it raises.
    """
    answers: list[Decided | ToplossError] = []
    with home.db.write() as connection:
        one_at_a_time(connection)
        known = classes.load(connection)
        for decision in decisions:
            try:  # what is raised is raised before anything of this one is written
                answers.append(_decide(connection, known, decision, actor, home.settings))
            except ToplossError as exc:
                answers.append(exc)
    return answers


def _decide(
    connection: Connection,
    known: classes.Classes,
    decision: Decision,
    actor: str,
    settings: Settings,
) -> Decided:
    sample_id, action, label = decision.sample, decision.action, decision.label
    kind = _kind(action, label)
    request = idempotency.fingerprint(sample_id, action, label, decision.revision, actor)
    row = connection.execute(select(samples).where(samples.c.id == sample_id)).first()
    if given := idempotency.answered(connection, decision.key, request):
        return Decided(**given)
    if row is None:
        raise NotFound(f"there is no sample {sample_id!r}; GET /v1/top-losses lists some")
    events.refuse_erased(row)
    if row.revision != decision.revision:
        raise Stale(
            f"sample {sample_id} is at revision {row.revision}, not at {decision.revision}; "
            "look at its present state and decide again",
            present=events.present(row, known),
        )
    class_id = known.id_of(label) if label is not None else None
    if decision.blind and class_id == row.class_id:
        kind = Kind.CONFIRM
    event_id, revision = new_id(), decision.revision + 1
    standing = events.apply(Standing.of(row), kind, class_id=class_id, event_id=event_id)
    events.append(
        connection,
        row,
        kind,
        standing,
        revision,
        actor=actor,
        class_id=standing.class_id,
        event_id=event_id,
        evidence=_seen(connection, row, standing, decision, known),
    )
    if kind is not Kind.SKIP and decision.imported is None:  # it was not this reviewer who judged
        questions.ask(connection, settings, event_id, row.seq, actor)
    if decision.blind:
        holdout.review(connection, row.seq, event_id, kind)
    connection.execute(claims.delete().where(claims.c.sample_seq == row.seq))
    decided = Decided(id=event_id, sample=sample_id, revision=revision)
    idempotency.keep(connection, decision.key, request, asdict(decided))
    return decided


def _kind(action: str, label: str | None) -> Kind:
    """Raises BadInput."""
    if action not in ACTIONS:
        raise BadInput(f"action {action!r} is none of {', '.join(ACTIONS)}; send one of them")
    if (action == Kind.RELABEL) != (label is not None):
        raise BadInput(
            "a relabel needs the right `label`; send it"
            if label is None
            else f"{action} takes no label, {label!r} was sent; leave it out or send a relabel"
        )
    return Kind(action)


def _seen(
    connection: Connection,
    row: Row[Any],
    standing: Standing,
    decision: Decision,
    known: classes.Classes,
) -> dict[str, Any] | None:
    """What there was to decide by, for the trail."""
    shown = losses.seen(connection, row.seq, standing.class_id, known, decision.order) or {}
    if decision.imported is not None:  # in no list of ours
        shown = {key: shown[key] for key in shown.keys() - {"order", "score"}}
    told = {name: getattr(decision, name) for name in ("rank", "seconds", "imported", "blind")}
    return shown | {name: value for name, value in told.items() if value is not None} or None


def undo(home: Home, decision_id: str, *, actor: str) -> Decided:
    """Take a decision back, as an event: the sample is again as the decision found it.

    Undoing it twice gives the same answer twice.

    Raises:
        NotFound: no such decision. Stale: a later decision stands on it. Erased.
    """
    with home.db.write() as connection:
        one_at_a_time(connection)
        event = _find(connection, decision_id)
        if (again := _undo_of(connection, event)) is not None:
            return Decided(id=again.id, sample=again.sample_id, revision=again.revision)
        row = connection.execute(select(samples).where(samples.c.id == event.sample_id)).one()
        events.refuse_erased(row)
        known = classes.load(connection)
        if row.decision_id != decision_id:
            raise Stale(
                f"decision {decision_id} cannot be undone: a later one stands on it; "
                f"undo {row.decision_id or 'the later import'} first",
                present=events.present(row, known),
            )
        restored = Standing.from_json(event.before)
        # A class merged since answers for the one that the decision found.
        restored = Standing(
            **{**asdict(restored), "class_id": known.ids[known.names[restored.class_id]]}
        )
        event_id = new_id()
        events.append(
            connection,
            row,
            Kind.UNDO,
            restored,
            row.revision + 1,
            actor=actor,
            class_id=restored.class_id,
            event_id=event_id,
            undoes=decision_id,
            evidence={"restored": asdict(restored)},
        )
        holdout.undo(connection, row.seq, decision_id)
        return Decided(id=event_id, sample=event.sample_id, revision=row.revision + 1)


def _find(connection: Connection, decision_id: str) -> Row[Any]:
    """A decision's event. Raises NotFound."""
    this = (sample_events.c.id == decision_id) & sample_events.c.kind.in_(ACTIONS)
    event = connection.execute(select(sample_events).where(this)).first()
    if event is None:
        raise NotFound(f"there is no decision {decision_id!r}; GET /v1/decisions lists them")
    return event


def _undo_of(connection: Connection, event: Row[Any]) -> Row[Any] | None:
    of_sample = sample_events.c.sample_id == event.sample_id  # which has an index
    undoing = of_sample & (sample_events.c.undoes == event.id)
    return connection.execute(select(sample_events).where(undoing)).first()

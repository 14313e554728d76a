"""How far the review is: what was decided, what is left, and what that is worth."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sqlalchemy import Connection, Row, func, select

from toploss import losses, policy, tally
from toploss.database import in_order
from toploss.estimate import Estimate, Left, Word, remaining
from toploss.events import Kind
from toploss.figures import Listed
from toploss.home import Home
from toploss.intervals import Interval, wilson
from toploss.policy import Due
from toploss.schema import DECIDED, sample_events, samples, scores, tallies

RECENT = 50  # decisions, in which the share of wrong labels is told
LOOKED_BACK = 1_000  # events, for the estimate
ALL_LEFT = 1_000  # up to so many samples, the estimate counts each
EVEN = 0.5  # what is likelier than this is likelier than everything else
ROUNDED = 1e-6  # of probabilities


@dataclass(frozen=True, kw_only=True)
class Recent:
    """The last decisions: whether it is still worth while."""

    decisions: int  # confirm, relabel, exclude: who skips says nothing of the label
    wrong: int
    share: float | None  # of wrong labels; None: nothing was decided yet
    interval: Interval  # of 95 %


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Where the review stands. Counts are of train and valid: test is not in the list."""

    version: str | None  # whose list it is
    reviewed: int  # samples of the list that are decided
    left: int
    unscored: int  # came after the model was made, and are not in the list yet
    recent: Recent
    estimate: Estimate | None  # of wrong labels among what is left; None: too few decisions
    retraining: Due


def now(home: Home) -> Progress:
    """As the list of the version that serves has it."""
    with home.db.read() as connection:
        version, scoring = losses.scoring_now(connection)
        verdicts = _verdicts(connection)
        reviewed = left = unscored = 0
        rest = Left(_word([]), np.zeros(0))
        if scoring is not None:
            reviewed = _number(connection, scoring, Listed.DECIDED)
            left = _number(connection, scoring, Listed.PENDING)
            unscored = _later(connection, scoring)
            rest = _left(connection, scoring, left)
    return Progress(
        version=version,
        reviewed=reviewed,
        left=left,
        unscored=unscored,
        recent=_recent(verdicts),
        estimate=remaining(
            _word([(verdict.loss, verdict.agreed) for verdict in verdicts]),
            np.array([verdict.wrong for verdict in verdicts], np.bool_),
            rest,
        ),
        retraining=policy.due(home),
    )


@dataclass(frozen=True)
class _Verdict:
    """What a reviewer found of one label."""

    wrong: bool
    loss: float  # as the list showed it
    agreed: bool  # the model would have given the same label


def _verdicts(connection: Connection) -> list[_Verdict]:
    """The latest of each sample of the list, newest first. What was taken back is none, nor what
    was judged elsewhere: captures, the holdout, imports."""
    event = sample_events.c
    # What is asked of the JSON is read there: to decode all of a thousand takes half of the time.
    query = (
        select(
            event.id,
            event.sample_id,
            event.kind,
            event.undoes,
            event.class_id,
            event.before["class_id"].as_integer().label("class_before"),
            event.evidence["loss"].as_float().label("loss"),
            event.evidence["confidence"].as_float().label("confidence"),
            event.evidence["imported"].as_string().label("imported"),
        )
        .where(DECIDED)
        .order_by(event.seq.desc())
        .limit(LOOKED_BACK)
    )
    undone, met, found = set(), set(), []
    for row in connection.execute(query):
        if row.kind == Kind.UNDO:
            undone.add(row.undoes)
        elif row.id not in undone and row.kind != Kind.SKIP and row.sample_id not in met:
            met.add(row.sample_id)
            if row.loss is not None and row.imported is None:
                other = row.class_id != row.class_before  # the same once more: it was right
                wrong = row.kind == Kind.EXCLUDE or (row.kind == Kind.RELABEL and other)
                # What it thought of the label was what it thought most of.
                agreed = math.exp(-row.loss) > (row.confidence or EVEN) - ROUNDED
                found.append(_Verdict(wrong, row.loss, agreed))
    return found


def _recent(verdicts: Sequence[_Verdict]) -> Recent:
    last = verdicts[:RECENT]
    wrong = sum(verdict.wrong for verdict in last)
    return Recent(
        decisions=len(last),
        wrong=wrong,
        share=wrong / len(last) if last else None,
        interval=wilson(wrong, len(last)),
    )


def _number(connection: Connection, scoring: Row[object], listed: Listed) -> int:
    this = (tallies.c.scoring == scoring.id) & (tallies.c.listed == int(listed))
    return tally.total(connection, this)


def _later(connection: Connection, scoring: Row[object]) -> int:
    later = select(func.count()).select_from(samples).where(samples.c.seq > scoring.newest)
    return int(connection.execute(later.where(samples.c.split != "test")).scalar_one())


def _left(connection: Connection, scoring: Row[object], number: int) -> Left:
    """All that is pending; of many the worst, and for the others the pool's quantiles below them:
    to read more would take longer than to decide a sample."""
    pending = (scores.c.scoring == scoring.id) & (scores.c.listed == int(Listed.PENDING))
    same = scores.c.class_id == scores.c.predicted_class_id
    worst_first = select(scores.c.loss, same).where(pending).order_by(scores.c.loss.desc())
    with in_order(connection):
        worst = [(loss, same) for loss, same in connection.execute(worst_first.limit(ALL_LEFT))]
    if number <= len(worst):
        return Left(_word(worst), np.ones(len(worst)))
    rest = [(loss, math.exp(-loss) > EVEN) for loss in scoring.loss_knots if loss < worst[-1][0]]
    weight = (number - len(worst)) / max(len(rest), 1)
    return Left(
        _word([*worst, *rest]),
        np.concatenate([np.ones(len(worst)), np.full(len(rest), weight)]),
    )


def _word(said: Sequence[tuple[float, bool]]) -> Word:
    """Of losses, and whether the model agrees."""
    losses, agrees = zip(*said, strict=True) if said else ((), ())
    return Word(losses=np.array(losses, np.float64), agrees=np.array(agrees, np.bool_))

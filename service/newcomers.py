"""Samples that came after the model's snapshot: it scores them itself, so that they stand in the
review list before anything is trained."""

import logging
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from sqlalchemy import Connection, Row, select

from service.batcher import Batcher
from service.behind import Behind
from service.swap import Serving, Swap
from toploss import novelty, orders, scoring
from toploss.engine import Outputs
from toploss.errors import ToplossError
from toploss.events import State
from toploss.home import Home
from toploss.orders import Neighbours
from toploss.preprocess import decode
from toploss.schema import samples
from toploss.scoring import Opinion
from toploss.space import Space

log = logging.getLogger("toploss.newcomers")

AT_ONCE = 32  # samples in one transaction
PAUSE_S = 0.02  # between two looks whether anybody waits for an answer
PATIENCE_S = 2.0  # that an image waits for such a moment, at most


class Newcomers(Behind):
    """Follows what comes in, with one thread of the lowest priority."""

    def __init__(self, home: Home, swap: Swap, batcher: Batcher) -> None:
        super().__init__("newcomers")
        self._home, self._swap, self._batcher = home, swap, batcher
        self._away = False  # the last look failed

    def score(self) -> bool:
        """Score the next of those that wait; returns whether there were any.

        Passed over are samples of test, of classes that the model does not know, near-duplicates of
        what it has learned from, and those whose image cannot be read.
        """
        serving = self._swap.serving
        if serving is None:
            return False
        with self._home.db.read() as connection:
            row = scoring.scoring_of(connection, serving.version)
            if row is None:
                return False
            space = Space.of(connection, serving.version)
            waiting = connection.execute(
                select(samples)
                .where(samples.c.seq > row.newest)
                .order_by(samples.c.seq)
                .limit(AT_ONCE)
            ).all()
            if not waiting:
                return False
            learned = _twins_of_learned(connection, waiting)
        wanted = [
            one
            for one in waiting
            if one.split != "test"
            and one.state != State.ERASED
            and one.class_id in space.place
            and one.id not in learned
        ]
        opinion = self._opinion(serving, wanted)
        if opinion is None:  # stopped in the middle
            return False
        with self._home.db.write() as connection:
            scored = scoring.add(connection, row, opinion, up_to=waiting[-1].seq)
        log.info(
            "action=score-newcomers outcome=done version=%s samples=%d passed_over=%d",
            serving.version,
            scored,
            len(waiting) - scored,
        )
        return True

    def _opinion(self, serving: Serving, wanted: Sequence[Any]) -> Opinion | None:
        ids, logits, features = [], [], []
        refused: list[ToplossError] = []
        for sample in wanted:
            if not self._turn():
                return None
            try:
                data = self._home.blobs.get_image(sample.id)
                image = decode(data, serving.size, self._home.limits)
            except ToplossError as exc:
                refused.append(exc)
                log.warning("action=score-newcomers outcome=refused error=%s", exc)
                continue
            pooled, _ = serving.engine.seen(image[None])
            ids.append(sample.id)
            features.append(pooled)
            logits.append(serving.head.logits(pooled[None])[0])
        if refused and not ids:
            self._home.blobs.get_image(self._oldest())  # raises, where the storage is away
        if not ids:
            nothing = np.zeros((0, len(serving.labels)), np.float32)
            return Opinion(ids=(), probabilities=nothing)
        outputs = Outputs(logits=np.stack(logits), features=np.stack(features))
        shares, bank = serving.reader.shares(outputs), serving.reader.bank
        if bank is None:
            return Opinion(ids=ids, probabilities=shares)
        near, distances = novelty.nearest(outputs.features, bank, orders.NEAREST)
        neighbours = Neighbours(places=near, cosines=1 - distances)
        return Opinion(ids=ids, probabilities=shares, neighbours=neighbours, known=bank.ids)

    def _turn(self) -> bool:
        """Wait until nobody waits for an answer, but not for ever; False: it is time to stop."""
        until = time.monotonic() + PATIENCE_S
        while not self._batcher.idle and time.monotonic() < until:
            if self._stopped.wait(PAUSE_S):
                return False
        return not self._stopped.is_set()

    def _oldest(self) -> str:
        with self._home.db.read() as connection:
            query = select(samples.c.id).order_by(samples.c.seq).limit(1)
            return str(connection.execute(query).scalar_one())

    def _follow(self) -> None:
        while not self._stopped.wait(self._home.settings.poll_s):
            try:
                while self.score() and not self._stopped.is_set():
                    pass
                self._away = False
            except Exception as exc:
                if not self._away:
                    log.warning("action=score-newcomers outcome=failed error=%r; tried again", exc)
                self._away = True


def _twins_of_learned(connection: Connection, waiting: Sequence[Row[Any]]) -> set[str]:
    """Those that show nearly what an older sample of train shows: a model that learned from that
    one has seen them."""
    ids = [one.id for one in waiting]
    bridges = select(samples.c.quarantined_by).where(samples.c.quarantined_by.in_(ids))
    joined = {one.id for one in waiting if one.split == "train" and one.group_id != one.id}
    return joined | set(connection.execute(bridges).scalars())

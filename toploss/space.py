"""The outputs of a version as classes of today."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sqlalchemy import Connection, Row, select

from toploss.orders import Labels, Probabilities, Scale
from toploss.schema import classes as class_table
from toploss.schema import versions


@dataclass(frozen=True, kw_only=True)
class Space:
    """Merged classes are one, and their probabilities add up."""

    class_ids: tuple[int, ...]  # each once, in the order of the outputs
    place: dict[int, int]  # class id → its place among them
    columns: Labels  # of each output, its class's place
    merges: dict[int, int]  # class id → the one that it was merged into

    @classmethod
    def of(cls, connection: Connection, version: str) -> "Space":
        found = connection.execute(select(versions.c.class_ids).where(versions.c.name == version))
        return cls.of_outputs(connection, found.scalar_one())

    @classmethod
    def of_scoring(cls, connection: Connection, scoring: Row[Any]) -> "Space":
        """Of a version that may not be published yet."""
        if scoring.class_ids is not None:
            return cls.of_outputs(connection, scoring.class_ids)
        return cls.of(connection, scoring.version)

    @classmethod
    def of_outputs(cls, connection: Connection, class_ids: Sequence[int]) -> "Space":
        gone = connection.execute(select(class_table).where(class_table.c.merged_into.is_not(None)))
        merges = {row.id: row.merged_into for row in gone}
        outputs = [merges.get(class_id, class_id) for class_id in class_ids]
        today = tuple(dict.fromkeys(outputs))
        place = {class_id: number for number, class_id in enumerate(today)}
        columns = np.array([place[class_id] for class_id in outputs], np.intp)
        return cls(class_ids=today, place=place, columns=columns, merges=merges)

    def merged(self, probabilities: Probabilities) -> Probabilities:
        """(n, outputs) to (n, classes)."""
        if len(self.class_ids) == len(self.columns):
            return probabilities
        sums = np.zeros((len(probabilities), len(self.class_ids)), np.float32)
        for output, place in enumerate(self.columns.tolist()):
            sums[:, place] += probabilities[:, output]
        return sums

    def scale(self, scoring: Row[Any]) -> Scale:
        """The pool's, as it was kept. A class that others were merged into asks for as much as the
        one of them that asked for most."""
        asked = np.zeros(len(self.class_ids))
        for class_id, threshold in scoring.thresholds:
            at = self.place[self.merges.get(class_id, class_id)]
            asked[at] = max(asked[at], threshold)
        knots = np.array(scoring.loss_knots), np.array(scoring.margin_knots)
        return Scale(thresholds=asked, knots=knots)

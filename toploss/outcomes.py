"""What came of the images that servers were asked about, counted by hour and generation: no image,
and nothing of a single one. What a caller did wrong, or was too much, is not counted."""

from dataclasses import dataclass

from sqlalchemy import Connection, func, select, text

from toploss.schema import outcomes
from toploss.traffic import KEPT_H

_ADD = text(
    "INSERT INTO outcomes (hour, generation, version, answers, failed, novel) "
    "VALUES (:hour, :generation, :version, :answers, :failed, :novel) "
    "ON CONFLICT (hour, generation) DO UPDATE SET answers = outcomes.answers + excluded.answers, "
    "failed = outcomes.failed + excluded.failed, novel = outcomes.novel + excluded.novel"
)


@dataclass(frozen=True, kw_only=True)
class Outcomes:
    """What came of images, counted."""

    answers: int = 0
    failed: int = 0  # the model could not compute them
    novel: int = 0  # of the answers

    @property
    def asked(self) -> int:
        return self.answers + self.failed


def add(
    connection: Connection, hour: int, generation: int, version: str, counted: Outcomes
) -> None:
    """Those of all servers add up."""
    key = {"hour": hour, "generation": generation, "version": version}
    connection.execute(_ADD, key | vars(counted))


def of_generation(connection: Connection, generation: int) -> Outcomes:
    """All of one generation."""
    return _sum(connection, outcomes.c.generation == generation)


def of_version(connection: Connection, version: str, *, since: int) -> Outcomes:
    """A version's from an hour on, whatever generation it was."""
    return _sum(connection, (outcomes.c.version == version) & (outcomes.c.hour >= since))


def forget(connection: Connection, *, now: int) -> None:
    """Drop what nobody asks for any more. `now`: the hour."""
    connection.execute(outcomes.delete().where(outcomes.c.hour < now - KEPT_H))


def _sum(connection: Connection, these: object) -> Outcomes:
    columns = (outcomes.c.answers, outcomes.c.failed, outcomes.c.novel)
    query = select(*(func.coalesce(func.sum(column), 0) for column in columns))
    answers, failed, novel = connection.execute(query.where(these)).one()  # type: ignore[arg-type]
    return Outcomes(answers=int(answers), failed=int(failed), novel=int(novel))

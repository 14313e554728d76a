"""The states of a run, from which of them it may go where, and what ends an attempt."""

from enum import StrEnum

BAD_DATA = 42  # exit code of a launched training that no new attempt can heal
RETRY_MAX_S = 900.0  # that a lost run waits at most


class RunState(StrEnum):
    QUEUED = "queued"
    LEASED = "leased"  # a dispatcher has launched it
    RUNNING = "running"  # the trainer has taken it up
    SUCCEEDED = "succeeded"  # it ended with a verdict, whatever the verdict
    FAILED = "failed"
    CANCELLED = "cancelled"


ACTIVE = (RunState.LEASED, RunState.RUNNING)
ENDED = (RunState.SUCCEEDED, RunState.FAILED, RunState.CANCELLED)

# From each state, where a run may go. A lost attempt goes back to the queue.
TRANSITIONS = {
    RunState.QUEUED: {RunState.LEASED, RunState.RUNNING, RunState.CANCELLED, RunState.FAILED},
    RunState.LEASED: {RunState.RUNNING, RunState.QUEUED, RunState.FAILED, RunState.CANCELLED},
    RunState.RUNNING: {
        RunState.SUCCEEDED,
        RunState.FAILED,
        RunState.CANCELLED,
        RunState.QUEUED,
    },
    # Taken up again by hand.
    RunState.FAILED: {RunState.RUNNING},
    RunState.CANCELLED: {RunState.RUNNING},
}


class Cause(StrEnum):
    """What ended an attempt that has no verdict."""

    LOST = "lost"  # its process was killed, has died or fallen silent
    AWAY = "away"  # the database or the storage could not be used, or was full
    BAD_DATA = "bad_data"  # what it was to learn from, or with which settings
    TIME_LIMIT = "time_limit"
    ERROR = "error"  # of any other kind: the same again, most likely


# What became of the run by it, in words.
WORDS = {
    Cause.LOST: "its attempts were lost; `toploss runs resume` or a new run tries again",
    Cause.AWAY: "the database or the storage could not be used",
    Cause.BAD_DATA: "bad data or settings: it is not tried again before they change",
    Cause.TIME_LIMIT: "the time limit: it is not tried again by itself",
    Cause.ERROR: "an error that a new attempt would most likely meet again",
}
HEALS = (Cause.LOST, Cause.AWAY)  # what a new attempt may find mended


def delay_s(first_s: float, losses: int) -> float:
    """How long a run waits after so many lost attempts: twice as long after each."""
    return float(min(RETRY_MAX_S, first_s * 2 ** min(losses - 1, 30)))

"""The queue of runs, as the tests of runs use it."""

from toploss import attempts, processes, records, runs
from toploss.states import RunState

ALIVE = processes.identity()
DEAD = f"{ALIVE.split(':')[0]}:{2**22 + 1}:1.00"  # no process has such a number
FAR = "elsewhere:1:1.00"


def enqueue(home, reason="asked", **options):
    return runs.enqueue(home, reason=reason, actor="ann", **options)


def taken(home, owner=FAR):
    """A run that a trainer has taken up."""
    enqueue(home)
    lease = runs.claim(home, owner=owner)
    attempts.take_up(home, lease, owner=owner)
    return lease


def finish(home, lease, state=RunState.SUCCEEDED, **fields):
    with home.db.write() as connection:
        attempts.finish(connection, lease, state, **fields)


def state(home, run):
    return records.show(home, run)["state"]

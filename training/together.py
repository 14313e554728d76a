"""Several processes, of one machine or of several, that do one attempt at a run: what torchrun
does, and its exit code is the training's own.

`torchrun` itself ends with 1 whatever went wrong, so that nobody outside could tell bad data from a
fault that another attempt heals.
"""

import os
import sys

from toploss.attempts import Lease
from toploss.processes import follow_parent
from toploss.settings import Settings

CLUSTER = "cluster"


def module(settings: Settings, lease: Lease) -> list[str]:
    """What Python runs for an attempt: a module and its arguments."""
    together = ["training.together", str(settings.train_processes)]
    which = together if settings.train_processes > 1 else ["training.run"]
    return [*which, lease.run, "--fence", str(lease.fence)]


def main(arguments: list[str]) -> int:
    """Takes the number of processes on this machine alone, or `cluster` where the environment says
    how many there are on which machines (`PET_…`), and then what `training.run` takes."""
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import parse_args, run

    processes, *rest = arguments
    if "--parent" in rest:
        # The trainings' parent is this process; they end with it.
        at = rest.index("--parent")
        parent = int(rest[at + 1])
        del rest[at : at + 2]
        follow_parent(lambda: os._exit(1), parent=parent)
    alone = ["--standalone", "--nproc-per-node", processes]
    options = [*([] if processes == CLUSTER else alone), "-m", "training.run", *rest]
    try:
        run(parse_args(options))  # type: ignore[no-untyped-call]
    except ChildFailedError as exc:
        _, failure = exc.get_first_failure()
        print(exc, file=sys.stderr)
        return int(failure.exitcode)
    except SignalException as exc:
        return 128 + int(exc.sigval)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

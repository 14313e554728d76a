"""How an attempt at a run ends without a verdict: in its row, and in its log."""

import contextlib
import errno
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from toploss import attempts, records
from toploss.attempts import Lease
from toploss.errors import BadData, BadInput, Broken, Cancelled, Fenced, ToplossError
from toploss.home import Home
from toploss.states import Cause, RunState
from training import patience
from training.logbook import Logbook

log = logging.getLogger("toploss.run")


@contextmanager
def written(home: Home, lease: Lease) -> Iterator[None]:
    """Whatever ends the attempt within is the run's end, or sends it back to the queue where a new
    attempt may find it mended."""
    try:
        yield
    except Fenced:
        raise
    except Cancelled as exc:
        _end(home, lease, RunState.CANCELLED, str(exc))
        raise
    except KeyboardInterrupt as exc:
        _end(home, lease, RunState.CANCELLED, "interrupted")
        raise KeyboardInterrupt(
            f"interrupted; `toploss runs resume {lease.run}` goes on where it stood"
        ) from exc
    except BaseException as exc:
        cause, error = cause_of(exc), str(exc) or repr(exc)
        if cause is Cause.AWAY:
            _said(home, lambda: attempts.give_up(home, lease, error=error, cause=cause))
        else:
            _end(home, lease, RunState.FAILED, error, cause)
        raise


@contextmanager
def logged(home: Home, lease: Lease, *, launched: bool = False) -> Iterator[None]:
    """What is logged within goes to the attempt's log too, and what has ended it: an error of ours
    to the log alone, for whoever asked for the run is told by the error itself.

    Args:
        launched: the launcher keeps what is written to standard error as the log.
    """
    with contextlib.ExitStack() as stack:
        handler: logging.Handler = logging.StreamHandler()
        if not launched:
            book = stack.enter_context(Logbook(home, lease))
            handler = logging.FileHandler(book.file, encoding="utf-8")
        with _into(handler):
            attempts.note(home, lease, log=records.log_path(lease.run, lease.fence))
            yield


@contextmanager
def _into(handler: logging.Handler) -> Iterator[None]:
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger = logging.getLogger("toploss")
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    try:
        yield
    except (Fenced, Cancelled, KeyboardInterrupt):
        raise
    except ToplossError as exc:
        handler.handle(log.makeRecord(log.name, logging.ERROR, "", 0, str(exc), (), None))
        raise
    except BaseException:
        log.exception("the run has failed")
        raise
    finally:
        logger.removeHandler(handler)
        handler.close()


def cause_of(exc: BaseException) -> Cause:
    """What kind of end it is."""
    if isinstance(exc, (BadData, BadInput)):
        return Cause.BAD_DATA
    # The libraries that write files have errors of their own for it.
    full = os.strerror(errno.ENOSPC) in str(exc)
    return Cause.AWAY if full or isinstance(exc, (Broken, OSError)) else Cause.ERROR


def _end(home: Home, lease: Lease, state: RunState, error: str, cause: Cause | None = None) -> None:
    def ended() -> None:
        with home.db.write() as connection:
            attempts.finish(connection, lease, state, error=error, cause=cause)

    _said(home, ended)


def _said(home: Home, end: Callable[[], object]) -> None:
    try:
        patience.through(home, end)
    except Fenced:
        log.warning("the run is another attempt's by now")

"""What can go wrong, in words for the person who can mend it.

Domain code raises these. The HTTP edge (`service.problems`) alone turns them into responses, the
command line (`training.cli`) alone into exit codes.
"""

from typing import Any


class ToplossError(Exception):
    """Something went wrong that the reader can act on.

    Subclasses say what kind. The message says what happened, with which value, and the remedy.
    `present` carries what the caller needs to go on (a stale caller gets the present state).
    """

    def __init__(self, message: str, *, present: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.present = present or {}


class BadInput(ToplossError):
    """A value from outside is wrong."""


class OutOfRange(BadInput):
    """A setting that somebody gave is none that there can be."""


class NotAnImage(BadInput):
    """The bytes are empty, damaged, or no image."""


class UnsupportedType(BadInput):
    """A type of file that we do not read."""


class TooLarge(BadInput):
    """More bytes or pixels than the settings allow."""


class UnknownLabel(BadInput):
    """A label that is none of the classes."""


class BadData(ToplossError):
    """The data set cannot be trained on as it stands; trying again will not help."""


class BadSettings(ToplossError):
    """A setting is missing or wrong."""


class NotFound(ToplossError):
    """No sample, run, version or decision of that name."""


class NotKept(NotFound):
    """An image of production that was not kept, or is kept no more."""


class Erased(NotFound):
    """A sample that was erased: a tombstone is all that is left of it."""


class CapReached(ToplossError):
    """No more of it today."""

    def __init__(self, message: str, *, retry_after_s: int = 3600) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Refused(ToplossError):
    """A rule says no: nothing due, the gate said no, a run is active."""


class Pruned(Refused):
    """A version whose files are gone: its row and its lineage are all that is left."""


class Stale(ToplossError):
    """The caller looked at an older state than the present one."""


class Broken(ToplossError):
    """Stored bytes are missing or do not match their hash."""


class WrongSchema(ToplossError):
    """The database has an older or a newer schema than this code."""


class NoModel(ToplossError):
    """No version has been promoted yet."""


class Overloaded(ToplossError):
    """More requests in flight than the service takes."""


class TimedOut(ToplossError):
    """It took longer than anybody waits."""


class Fenced(ToplossError):
    """Another attempt owns this run now; what this one did does not count."""


class Cancelled(ToplossError):
    """Somebody asked the run to stop."""

"""Waiting for a database or a storage that is away."""

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from toploss.errors import Broken
from toploss.home import Home

log = logging.getLogger("toploss.run")

LOOK_S = 2.0  # between two tries

T = TypeVar("T")


def through(home: Home, work: Callable[[], T], check: Callable[[], None] = lambda: None) -> T:
    """Do it, again and again while the database or the storage is away, for as long as the settings
    say. For what may be done twice.

    Args:
        check: is called before each further try; may raise.

    Raises:
        Broken: they were away for longer.
    """
    until = time.monotonic() + home.settings.away_s
    while True:
        try:
            return work()
        except Broken as exc:
            if time.monotonic() >= until:
                raise
            log.warning("waiting: %s", exc)
            check()
            time.sleep(LOOK_S)

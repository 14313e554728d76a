"""What Prometheus is told of the installation as a whole, and of this server's disk. Nobody waits
for it."""

import logging
import math
import shutil
import time
from pathlib import Path

from service import metrics
from service.behind import Behind
from toploss import bentostore, vitals
from toploss.home import Home

log = logging.getLogger("toploss.vitals")

LOOK_S = 15.0  # between two looks: as often as Prometheus usually asks


class Vitals(Behind):
    """A thread of the lowest priority looks. While the database is away the numbers stay as they
    were, and `toploss_looked_timestamp_seconds` tells how old they are."""

    def __init__(self, home: Home) -> None:
        super().__init__("vitals")
        self._home = home
        self._away = False  # the last look failed

    def look(self) -> None:
        """Whatever fails leaves the numbers as they were."""
        try:
            _tell_disks(self._home)
            _tell(vitals.look(self._home))
        except Exception as exc:
            if not self._away:
                log.warning("action=look-at-vitals outcome=failed error=%r; tried again", exc)
            self._away = True
        else:
            metrics.LOOKED.set(time.time())
            self._away = False

    def _follow(self) -> None:
        self.look()
        while not self._stopped.wait(LOOK_S):
            self.look()


def _tell(found: vitals.Vitals) -> None:
    metrics.PRODUCTION.set(found.generation)
    metrics.RUN_QUEUED.set(found.queued_at or 0)
    metrics.RUN_ACTIVE.set(found.active_at or 0)
    metrics.RUN_LEFT.set(math.nan if found.left_s is None else found.left_s)
    for of in ("train", "valid"):
        metrics.RUN_LOSS.labels(of=of).set(found.losses.get(of, math.nan))
    for state, at in found.ended_at.items():
        metrics.RUN_ENDED.labels(state=state.value).set(at)
    metrics.REFUSALS.set(found.refusals)
    metrics.DUE.set(found.due.due)
    metrics.PAUSED.set(found.due.paused)
    metrics.CHANGED.set(found.due.changed)
    metrics.NEEDED.set(found.due.needed)
    metrics.SAMPLES.set(found.samples)
    metrics.SAMPLE_ADDED.set(found.added_at or 0)
    metrics.DATA_CHANGED.set(found.changed_at or 0)
    metrics.REVIEW.labels(state="pending").set(found.pending)
    metrics.REVIEW.labels(state="decided").set(found.decided)
    metrics.DISPATCHER.set(found.dispatcher_at or 0)


def _tell_disks(home: Home) -> None:
    for place, folder in _places(home).items():
        # One that is made later, with the first image, will lie where its parent lies.
        usage = shutil.disk_usage(next(at for at in (folder, *folder.parents) if at.exists()))
        metrics.DISK_FREE.labels(place=place).set(usage.free)
        metrics.DISK_SIZE.labels(place=place).set(usage.total)


def _places(home: Home) -> dict[str, Path]:
    found = {"home": home.settings.home, "models": bentostore.store()}
    storage = home.blobs.folder
    return found if storage is None else found | {"storage": storage}

"""The model that answers: follows the production alias, and changes by swapping one reference."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from service import metrics
from service.logs import in_a_line
from toploss import bentostore, loading, models
from toploss.answers import Answer, Reader
from toploss.artifact import Loaded
from toploss.engine import Engine, Images
from toploss.errors import NoModel
from toploss.fit import Fit
from toploss.head import Head
from toploss.heap import give_memory_back
from toploss.home import Home
from toploss.models import Alias, Version
from toploss.priority import BEHIND, LAST, aside, step_back
from toploss.servers import Standing

log = logging.getLogger("toploss.swap")

T = TypeVar("T")

LONGEST_RETRY_S = 60.0
PATIENCE_S = (
    2.0  # for so long a new version lets the answers go first; then it takes turns with them
)


@dataclass(frozen=True, kw_only=True)
class Serving:
    """One version, ready to answer. A request takes it once, and so answers from one version."""

    version: str
    generation: int
    labels: tuple[str, ...]  # in the order of the engine's outputs
    size: int  # side of the network's input in pixels
    engine: Engine
    reader: Reader  # of what the engine says
    head: Head  # of the network, for what it looked at
    published: Version  # its row

    def answers(self, images: Images, *, alone: bool) -> list[Answer]:
        """One for each image; `alone` as the engine's `outputs` has it."""
        return self.reader.read(self.engine.outputs(images, alone=alone))


@dataclass(kw_only=True)
class _Failure:
    """A generation that did not load."""

    generation: int
    error: str  # the last time
    tries: int
    again_at: float  # monotonic clock, seconds


class Swap:
    """Looks at the alias from a thread of its own; requests only read `serving`. That thread alone
    loads versions: what is in the process once, as a GPU's stream, is used by one at a time."""

    def __init__(self, home: Home, *, also: Callable[[], bool] = lambda: False) -> None:
        """
        Args:
            also: what else this thread does after each look; says whether a version came or went.
        """
        self.serving: Serving | None = None
        self._home, self._also = home, also
        self._wanted: Alias | None = None
        self._since = time.monotonic()  # when that became another one
        self._looked = threading.Event()
        self._failure: _Failure | None = None
        self._away = False  # the database could not be asked the last time
        self._fit: Fit | None = None  # how the database stood to this release then
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="swap", daemon=True)

    def start(self, *, wait_s: float = 20.0) -> None:
        """Begin to follow; returns when the first look is over, or after `wait_s`."""
        metrics.READY.set(0)
        self._thread.start()
        self._looked.wait(wait_s)

    def stop(self) -> None:
        """It looks no more, not even at the database, which may be closed then."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(5)

    @property
    def ready(self) -> bool:
        """The schema fits, and a model is loaded and warmed, or none was ever promoted."""
        if self._fit is not None and not self._fit.usable:
            return False
        return self.serving is not None or (self._looked.is_set() and self._wanted is None)

    @property
    def beside(self) -> Fit | None:
        """How the database stands, where a newer release has upgraded it and this one goes on."""
        return self._fit if self._fit is not None and self._fit.newer else None

    def now(self) -> Serving:
        """The version that answers. Raises NoModel."""
        serving = self.serving
        if serving is None:
            raise NoModel(self.told())
        return serving

    def told(self) -> str:
        """Why nothing answers, in words."""
        if self._fit is not None and not self._fit.usable:
            return self._fit.told("of this service")
        if not self._looked.is_set():
            return "the service is starting; try again in a second"
        if self._wanted is None:
            return "no model yet: no version has been promoted; train one with `toploss train`"
        how = "does not load, the log says why" if self._failure else "is being loaded"
        return f"no model yet: version {self._wanted.version} {how}; try again in a second"

    def standing(self) -> Standing:
        """How this server stands to production, for whoever watches a promotion."""
        serving, wanted, failure = self.serving, self._wanted, self._failure
        here = None if wanted is None else wanted.generation
        behind = here is not None and (serving is None or serving.generation != here)
        failed = behind and failure is not None and failure.generation == here
        return Standing(
            version=serving.version if serving else None,
            generation=serving.generation if serving else None,
            wanted=here,
            waits_s=time.monotonic() - self._since if behind else 0.0,
            error=failure.error if failed and failure else None,
        )

    def look(self) -> bool:
        """Ask where production stands, and follow it; returns whether another version answers now.
        What fails leaves the present model in place: a database that is away for a while must not
        stop the answers."""
        try:
            alias = self._production()
        except Exception as exc:
            if not self._away:
                log.warning("action=look outcome=failed error=%r; the present model stays", exc)
            self._away = True
            return False
        self._away = False
        if alias is not None and (
            self._wanted is None or self._wanted.generation != alias.generation
        ):
            self._since = time.monotonic()
        self._wanted = alias
        changed = (
            alias is not None
            and not self._serves(alias)
            and not self._rests(alias)
            and self._change(alias)
        )
        self._looked.set()
        return changed

    def _check(self, fit: Fit) -> None:
        """Another release may upgrade the database while this one answers: say so, once."""
        before, self._fit = self._fit, fit
        if before is not None and fit != before:
            level = logging.WARNING if fit.usable else logging.ERROR
            log.log(level, "action=schema %s", fit.told("of this service"))

    def _follow(self) -> None:
        step_back(BEHIND)  # the threads of an engine's own are as those of the lanes
        while not self._stopped.is_set():
            changed = self.look()
            metrics.READY.set(self.ready)
            changed = self._also() or changed
            self._stopped.wait(self._home.settings.poll_s)
            if changed:  # by now nobody is answered by the old one
                give_memory_back()

    def _serves(self, alias: Alias) -> bool:
        serving = self.serving
        return (
            serving is not None
            and serving.generation == alias.generation
            and serving.published.manifest_sha256 == alias.sealed
        )

    def _rests(self, alias: Alias) -> bool:
        failure = self._failure
        return (
            failure is not None
            and failure.generation == alias.generation
            and time.monotonic() < failure.again_at
        )

    def _change(self, alias: Alias) -> bool:
        began = time.monotonic()
        try:
            settings = self._home.settings
            serving = load(
                self._home,
                self._version(alias.version),
                files=self._files,
                generation=alias.generation,
                engine=settings.engine,
                device=settings.device,
                threads=settings.thread_count,
            )
        except Exception as exc:  # whatever it is, the old version goes on answering
            self._failed(alias, exc)
            return False
        before, self.serving = self.serving, serving
        self._failure = None
        metrics.SWAPS.labels(result="done").inc()
        metrics.GENERATION.set(serving.generation)
        metrics.PUBLISHED.set(serving.published.created_at)
        log.info(
            "action=swap outcome=done version=%s generation=%d before=%s seconds=%.2f",
            serving.version,
            serving.generation,
            before.version if before else "none",
            time.monotonic() - began,
        )
        return True

    def _production(self) -> Alias | None:
        self._check(self._home.db.fit())
        return models.production(self._home)

    def _version(self, name: str) -> Version:
        return models.get(self._home, name)

    def _files(self, version: Version) -> Loaded:
        return bentostore.pull(self._home, version)

    def _failed(self, alias: Alias, exc: Exception) -> None:
        """Remember the generation and when to try it again; say it once."""
        known = self._failure
        again = known is not None and known.generation == alias.generation
        tries = known.tries + 1 if known is not None and again else 1
        rest = min(LONGEST_RETRY_S, self._home.settings.poll_s * 2**tries)
        self._failure = _Failure(
            generation=alias.generation,
            error=str(exc) or repr(exc),
            tries=tries,
            again_at=time.monotonic() + rest,
        )
        metrics.SWAPS.labels(result="failed").inc()
        if not again:
            log.error(
                "action=swap outcome=failed version=%s generation=%d error=%s; the present model "
                "stays, and it is tried again; where no server loads it: `toploss models rollback`",
                alias.version,
                alias.generation,
                in_a_line(exc),
            )
        log.debug("action=swap outcome=failed version=%s", alias.version, exc_info=exc)


def load(
    home: Home,
    version: Version,
    *,
    files: Callable[[Version], Loaded],
    generation: int,
    engine: loading.Choice,
    device: loading.Device,
    threads: int,
) -> Serving:
    """A version fetched, checked, loaded and warmed, behind whoever computes meanwhile; but where
    every core is taken for long, not for ever.

    Args:
        files: has them on this machine, each checked against its hash.

    Raises:
        Broken, and whatever a storage or a runtime may raise: nothing of it is left in memory.
    """
    began = time.monotonic()

    def patiently(work: Callable[[], T]) -> T:
        return aside(work, LAST if time.monotonic() - began < PATIENCE_S else BEHIND)

    loaded = patiently(lambda: files(version))
    made = loading.load(loaded, engine=engine, device=device, threads=threads, aside=patiently)
    size = loaded.preprocessing.size
    reader = Reader.of(loaded, uncertain_below=home.settings.uncertain_below)
    patiently(lambda: _warm(made, reader, size))
    return Serving(
        version=version.name,
        generation=generation,
        labels=loaded.labels,
        size=size,
        engine=made,
        reader=reader,
        head=Head.of(loaded),
        published=version,
    )


def _warm(engine: Engine, reader: Reader, size: int) -> None:
    """With one image each way; the check has done it with many, and what lies between costs
    nothing more the first time (measured: docs/benchmarks.md)."""
    for alone in (True, False):
        reader.read(engine.outputs(np.zeros((1, 3, size, size), np.uint8), alone=alone))

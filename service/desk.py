"""What the routes work with. It is laid out when a worker starts, never at import."""

import asyncio
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from service.auth import Doorkeeper, RateLimit, caller_of
from service.batcher import Batcher
from service.behind import Behind
from service.bodies import Bodies
from service.cache import Cache
from service.capture import Capture
from service.newcomers import Newcomers
from service.reports import Reports
from service.shadow import Shadow
from service.swap import Swap
from service.traffic import Traffic
from service.vitals import Vitals
from toploss.home import Home

ARCHIVES = 4  # of the largest size, that may be under way at a time


@dataclass(frozen=True, kw_only=True)
class Desk:
    """All that a worker has, made once."""

    home: Home
    swap: Swap  # the model that answers
    batcher: Batcher  # predictions in flight
    cache: Cache  # answers once given
    shadow: Shadow  # the candidate beside it
    traffic: Traffic  # what was answered, counted
    reports: Reports  # what the watch over a promotion is told
    capture: Capture  # images kept for review
    newcomers: Newcomers  # samples that it scores as they come
    vitals: Vitals  # what is told of the whole
    doorkeeper: Doorkeeper  # who may come in
    rate_limit: RateLimit
    bodies: Bodies  # of requests under way, in memory
    archives: Bodies  # likewise, on disk
    explaining: asyncio.Semaphore  # one heat map at a time: predictions go first
    unpacking: asyncio.Semaphore  # one archive or import at a time

    @classmethod
    def lay(cls, home: Home) -> "Desk":
        """With everything."""
        batcher = batcher_for(home)
        shadow = Shadow(home, batcher)
        swap = Swap(home, also=shadow.look)
        return cls.around(
            home,
            batcher,
            swap=swap,
            newcomers=Newcomers(home, swap, batcher),
            shadow=shadow,
            traffic=Traffic(home),
            reports=Reports(home, swap),
            capture=Capture(home),
            vitals=Vitals(home),
            doorkeeper=Doorkeeper(home),
        )

    @classmethod
    def around(
        cls,
        home: Home,
        batcher: Batcher,
        *,
        swap: Swap,
        newcomers: Newcomers,
        shadow: Shadow,
        traffic: Traffic,
        reports: Reports,
        capture: Capture,
        vitals: Vitals,
        doorkeeper: Doorkeeper,
    ) -> "Desk":
        """With these, and what every server has."""
        settings = home.settings
        return cls(
            home=home,
            swap=swap,
            newcomers=newcomers,
            batcher=batcher,
            cache=Cache(batcher, settings.cache_bytes),
            shadow=shadow,
            traffic=traffic,
            reports=reports,
            capture=capture,
            vitals=vitals,
            doorkeeper=doorkeeper,
            rate_limit=RateLimit(settings.rate_limit),
            bodies=Bodies(most=settings.max_bodies, timeout_s=settings.timeout_s),
            archives=Bodies(most=ARCHIVES * settings.max_archive, timeout_s=settings.timeout_s),
            explaining=asyncio.Semaphore(1),
            unpacking=asyncio.Semaphore(1),
        )

    @property
    def _behind(self) -> tuple[Behind, ...]:
        return self.shadow, self.traffic, self.capture, self.newcomers, self.vitals

    def start(self) -> None:
        """Start the threads. Returns when the model is loaded, or that takes long."""
        self.reports.start()  # before a model is loaded: that may be what ends the process
        self.swap.start()
        for one in self._behind:
            one.start()

    def clear(self) -> None:
        """Stop the threads. What is under way ends."""
        self.swap.stop()
        for one in (self.reports, *self._behind):
            one.stop()
        self.doorkeeper.stop()
        self.batcher.close()
        self.home.db.close()


def batcher_for(home: Home) -> Batcher:
    """As the settings have it."""
    settings = home.settings
    return Batcher(
        home.limits,
        threads=settings.thread_count,
        places=settings.queue_size,
        largest=settings.batch_size,
        wait_s=settings.batch_wait_ms / 1000,
        timeout_s=settings.timeout_s,
    )


async def _desk(request: Request) -> Desk:
    desk: Desk = request.app.state.desk
    return desk


async def _home(request: Request) -> Home:
    desk: Desk = request.app.state.desk
    return desk.home


async def _actor(request: Request) -> str:
    return caller_of(request.scope).key.name


OurDesk = Annotated[Desk, Depends(_desk)]
OurHome = Annotated[Home, Depends(_home)]
Actor = Annotated[str, Depends(_actor)]  # the name of the key that asks

"""How a server serves: with a database everything, or alone what its Bento carries."""

from pathlib import Path
from typing import Protocol

from fastapi import FastAPI

from service import alone, api
from service.alone import Alone
from service.desk import Desk
from toploss.errors import BadSettings
from toploss.home import Home
from toploss.keys import Ring
from toploss.settings import read_settings


class Mode(Protocol):
    """What a service is made of."""

    def api(self) -> FastAPI:
        """The routes, without a desk."""

    def ring(self) -> Ring:
        """The keys, before anything is served. Raises ToplossError: it cannot be."""

    def desk(self) -> Desk:
        """What the routes work with; nothing of it has started. Raises ToplossError."""


class Whole:
    """With a database."""

    def api(self) -> FastAPI:
        return api.build()

    def ring(self) -> Ring:
        home = Home.open()
        try:
            return Ring.load(home)
        finally:
            home.db.close()

    def desk(self) -> Desk:
        return Desk.lay(Home.open())


def found(bento: Path = alone.BENTO) -> Mode:
    """By the settings; `auto` is decided here, once for a process."""
    try:
        settings = read_settings()
    except BadSettings:
        return Whole()  # which says so when it opens its home
    if settings.serve_from == "auto":
        built = (bento / "bento.yaml").is_file()
        is_alone = built and not settings.database_url and not settings.database_file.exists()
    else:
        is_alone = settings.serve_from == "bento"
    return Alone(settings, bento) if is_alone else Whole()

"""A built Bento that serves alone: the version that it carries, read-only, without a database.

Predictions, explanations and the version's card are all there is; keys come from files. What a
server with a database tells or keeps of its answers is neither told nor kept.
"""

import logging
import secrets
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn, cast

import yaml
from fastapi import FastAPI

from service import api, card, explanations, predictions
from service.auth import Doorkeeper
from service.desk import Desk, batcher_for
from service.swap import Swap
from toploss import artifact, keys
from toploss.artifact import Loaded
from toploss.blobs import Blobs
from toploss.database import Database
from toploss.errors import BadSettings, Broken
from toploss.home import Home
from toploss.keys import Ring, Role
from toploss.models import Alias, Version
from toploss.settings import Settings

log = logging.getLogger("toploss.alone")

BENTO = Path(__file__).parents[2]  # the folder above `src`, if this is a Bento
FRONT = "/v1/model"
ELSEWHERE = (
    "this server answers alone, with the version in its Bento and without a database; "
    "GET /docs.json lists what it has, and with TOPLOSS_DATABASE_URL it has the rest"
)
PARTS = (predictions, explanations, card)


@dataclass(frozen=True, kw_only=True)
class Carried:
    """The version in a Bento, as `service.packing` noted it."""

    tag: str  # of BentoML's model store
    manifest_sha256: str
    run: str
    created_at: float  # seconds since 1970, UTC

    @property
    def version(self) -> str:
        return self.tag.partition(":")[2]


def carried(bento: Path = BENTO) -> Carried:
    """Raises BadSettings: there is no Bento, or no version in it."""
    try:
        told = yaml.safe_load((bento / "bento.yaml").read_text(encoding="utf-8"))
        (model,) = [model for service in told["services"] for model in service["models"]]
        return Carried(tag=model["tag"], **model["metadata"])
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError) as exc:
        raise BadSettings(
            f"TOPLOSS_SERVE_FROM='bento' takes a built Bento, and {bento} carries no version; "
            "build one with `bentoml build`, or set TOPLOSS_SERVE_FROM=database"
        ) from exc


@dataclass(frozen=True)
class Alone:
    """The mode. Its counterpart is `service.mode.Whole`."""

    settings: Settings
    bento: Path = BENTO

    @cached_property
    def carried(self) -> Carried:
        return carried(self.bento)

    def api(self) -> FastAPI:
        return api.bare(
            (part.router for part in PARTS),
            front=FRONT,
            elsewhere=ELSEWHERE,
            needed=lambda method, path: Role.PREDICT,  # of all that is there
        )

    def ring(self) -> Ring:
        """Who may come in. Raises BadSettings: also, where there is nothing to serve."""
        assert self.carried
        return Ring.of_files(self.settings)

    def desk(self) -> Desk:
        absent, nobody = cast(Any, Absent()), cast(Any, Nobody())
        home = Home(settings=self.settings, db=cast(Database, absent), blobs=cast(Blobs, absent))
        log.info("action=serve mode=alone version=%s", self.carried.version)
        return Desk.around(
            home,
            batcher_for(home),
            swap=Still(home, self.carried),
            doorkeeper=Porter(home),
            newcomers=nobody,
            shadow=nobody,
            traffic=nobody,
            reports=nobody,
            capture=nobody,
            vitals=nobody,
        )


class Still(Swap):
    """Follows an alias that never moves: to the version in the Bento."""

    def __init__(self, home: Home, carried: Carried) -> None:
        super().__init__(home)
        self._carried = carried

    def _production(self) -> Alias:
        return Alias(
            version=self._carried.version,
            generation=0,
            kind="bento",
            sealed=self._carried.manifest_sha256,
            below=None,
            reason="",
            at=self._carried.created_at,
        )

    def _version(self, name: str) -> Version:
        loaded = self._open()
        return Version(
            name=name,
            run=self._carried.run,
            path=str(loaded.folder),
            manifest=loaded.manifest,
            manifest_sha256=self._carried.manifest_sha256,
            created_at=self._carried.created_at,
        )

    def _files(self, version: Version) -> Loaded:
        return self._open()

    def _open(self) -> Loaded:
        import bentoml

        try:  # a Bento that was unpacked or containerized has a store of its own
            folder = Path(bentoml.models.get(self._carried.tag).path)
        except Exception as exc:  # an unreadable model.yaml raises whatever its parser does
            raise Broken(
                f"the Bento's version {self._carried.tag} is not in BentoML's store ({exc}); "
                "`bentoml import` brings both"
            ) from exc
        return artifact.open_folder(folder, self._carried.manifest_sha256)


class Porter(Doorkeeper):
    """Knows the keys of the files. There are no pages, and so nobody signs in."""

    def _load(self, *, again: bool = False) -> Ring:
        return Ring.of_files(self._home.settings, may_be_gone=again)

    def _signing(self) -> bytes:
        return secrets.token_bytes(keys.SECRET_BYTES)


class Nobody:
    """In the place of those who tell a database what was answered, or keep an image."""

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def offer(self, *_: Any) -> None: ...

    def count(self, *_: Any) -> None: ...

    def answered(self, *_: Any) -> None: ...

    def failed(self, *_: Any) -> None: ...


class Absent:
    """In the place of the database and the storage: a route that needs them is not served."""

    def close(self) -> None: ...

    def __getattr__(self, name: str) -> NoReturn:
        raise AssertionError(f"a server that is alone has no {name}")

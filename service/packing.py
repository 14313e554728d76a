"""The version that `bentoml build` packs."""

from typing import Any, NoReturn

import attrs
from _bentoml_sdk.models import Model
from bentoml._internal.bento.bento import BentoModelInfo
from bentoml.exceptions import BentoMLException

from toploss import bentostore, models
from toploss.errors import ToplossError
from toploss.home import Home
from toploss.models import Version


class Packed(Model[None]):  # type: ignore[misc]  # untyped there
    """Which one is decided when it is built: production, or what TOPLOSS_BENTO_VERSION says. By
    then it is in BentoML's store, and the Bento notes its exact name and its manifest's hash."""

    def to_info(self, alias: str | None = None) -> BentoModelInfo:
        """Asked by a build. Raises BentoMLException: which its command line tells in a line."""
        import bentoml

        try:
            name, version = _pulled()
        except ToplossError as exc:
            raise BentoMLException(str(exc)) from exc
        stored = bentoml.models.get(f"{name}:{version.name}")
        noted = {
            "manifest_sha256": version.manifest_sha256,
            "run": version.run,
            "created_at": version.created_at,
        }
        return attrs.evolve(BentoModelInfo.from_bento_model(stored, alias), metadata=noted)

    def resolve(self, base_path: Any = None) -> None:
        """Asked by a server that is no Bento: it follows the production alias itself."""

    @classmethod
    def from_info(cls, info: BentoModelInfo) -> NoReturn:
        raise NotImplementedError("a Bento's models are BentoML's own")

    def to_create_schema(self) -> NoReturn:
        raise NotImplementedError("a Bento's models are BentoML's own")


def _pulled() -> tuple[str, Version]:
    """The classifier's name, and a version that lies in BentoML's store whole."""
    home = Home.open()
    try:
        version = models.get(home, home.settings.bento_version)
        bentostore.pull(home, version)
        return home.settings.name, version
    finally:
        home.db.close()

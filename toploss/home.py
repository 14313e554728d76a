"""What one installation works on: its settings, database and storage."""

from dataclasses import dataclass
from functools import cached_property

from toploss.blobs import Blobs
from toploss.database import Database
from toploss.preprocess import Limits
from toploss.settings import Settings, read_settings


@dataclass(frozen=True)
class Home:
    """Handed to every function of the ground floor that reads or writes what is kept."""

    settings: Settings
    db: Database
    blobs: Blobs

    @classmethod
    def open(cls, settings: Settings | None = None) -> "Home":
        """Open the home of these settings (else of the environment); a missing one is created.

        Raises:
            BadSettings, Broken, WrongSchema.
        """
        settings = settings or read_settings()
        blobs = Blobs(
            settings.storage,
            endpoint=settings.s3_endpoint_url,
            addressing=settings.s3_addressing,
        )
        home = cls(settings=settings, db=Database(settings.database), blobs=blobs)
        home.db.prepare()
        return home

    @cached_property
    def limits(self) -> Limits:
        return Limits(bytes=self.settings.max_bytes, pixels=self.settings.max_pixels)

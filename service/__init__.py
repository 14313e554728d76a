"""The only place that serves. `bentoml serve service:Toploss`."""

from typing import Any

__all__ = ["Toploss"]


def __getattr__(name: str) -> Any:
    """Hand out the BentoML service when it is asked for: importing a part costs no BentoML."""
    if name == "Toploss":
        from service.app import Toploss

        return Toploss
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

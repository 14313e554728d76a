"""A served home, as the service's own tests have it."""

from tests.service.conftest import export, house, unserved

__all__ = ["export", "house", "unserved"]

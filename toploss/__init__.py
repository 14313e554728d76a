"""The ground floor: the domain that `training` and `service` share. It imports neither."""

__version__ = "0.1.0"

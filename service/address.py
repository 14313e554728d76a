"""Which address the service may listen on: a loopback one, unless there are keys."""

import ipaddress
import os
import signal
import socket
import sys
from collections.abc import Callable
from typing import Any, NoReturn

import click

from toploss.errors import ToplossError
from toploss.keys import Ring


def is_loopback(host: str) -> bool:
    """Of an address, or `localhost`. Other names are none: they may lead anywhere."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def refuse_in_supervisor(configured: str, ring: Callable[[], Ring]) -> None:
    """Refuse to start in the process of `bentoml serve`, before it has workers: it starts a worker
    that ends again, for ever.

    Args:
        configured: the host of BentoML's configuration, which `--host` and BENTOML_HOST overrule.
        ring: the keys. What it raises is told in a line, and nothing starts.
    """
    given = _command("host")
    if given is None:
        return  # a worker, a build, a test
    host = given["host"] or configured
    try:
        has_keys = bool(ring().keys)
    except ToplossError as exc:
        _refuse(str(exc))
    if not has_keys and not is_loopback(host):
        _refuse(_told(host))


def refuse_in_worker(ring: Ring) -> None:
    """The address that was really bound has the last word; the supervisor is ended as well."""
    given = _command("fd")
    if given is None:
        return
    with socket.socket(fileno=os.dup(given["fd"])) as bound:
        address = bound.getsockname()
    if isinstance(address, tuple) and not is_loopback(address[0]) and not ring.keys:
        print(f"toploss: {_told(address[0])}", file=sys.stderr, flush=True)
        os.kill(os.getppid(), signal.SIGTERM)
        os._exit(1)


def _command(option: str) -> dict[str, Any] | None:
    """The options of the BentoML command that this process runs, when it is one that has this."""
    context = click.get_current_context(silent=True)
    if context is None or option not in context.params:
        return None
    return context.params


def _told(host: str) -> str:
    return (
        f"refusing to listen on {host}: there are no API keys, so only a loopback address is "
        "served; start with --host 127.0.0.1, or make a key by `toploss keys create` (where there "
        "is no database, with --file, and set TOPLOSS_KEYS_FILE)"
    )


def _refuse(reason: str) -> NoReturn:
    print(f"toploss: {reason}", file=sys.stderr, flush=True)
    raise SystemExit(1)

"""What a pod prints, as it prints it. Each look asks for the last few seconds alone; lines come
with their time, and what was seen is told by that."""

import re
import time
from collections.abc import Iterator
from datetime import datetime

from training.cluster import LOG_BYTES, LOG_LINES, Cluster

OVERLAP_S = 5  # that are asked for once more: the node's clock and ours do not go together
STAMPED = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d+))?(Z|[+-]\d\d:\d\d) ?(.*)")

At = tuple[float, int]  # seconds since 1970, nanoseconds


class PodLog:
    """Of one pod's container. Every method raises Broken as `Cluster`."""

    def __init__(self, cluster: Cluster, pod: str, container: str) -> None:
        self._cluster, self._pod, self._container = cluster, pod, container
        self._lines: list[str] = []
        self._last: At = (0.0, 0)
        self._same = 0  # lines of that time
        self._asked: float | None = None  # by the monotonic clock

    @property
    def text(self) -> str:
        """The end of what it has printed, also when the pod is gone by now."""
        return "\n".join(self._lines)

    def follow(self) -> bool:
        """Ask for what is new; whether there is any."""
        began = time.monotonic()
        since = None if self._asked is None else int(began - self._asked) + OVERLAP_S
        printed = self._cluster.output(self._pod, self._container, since_s=since)
        new = list(self._new(printed))
        self._asked = began
        self._lines += new
        self._trim()
        return bool(new)

    def _new(self, printed: str) -> Iterator[str]:
        """The lines that were not there the last time."""
        last, met, fresh = self._last, 0, self._asked is None
        for line in printed.splitlines():
            found = STAMPED.match(line)
            if found is None:  # goes on where the line before it broke
                if fresh:
                    yield line
                continue
            at = _at(*found.groups()[:3])
            met += at == last
            fresh = at > last or (at == last and met > self._same)
            if not fresh:
                continue
            self._same = self._same + 1 if at == self._last else 1
            self._last = at
            yield found[4]

    def _trim(self) -> None:
        del self._lines[:-LOG_LINES]
        size = sum(map(len, self._lines))
        while size > LOG_BYTES and len(self._lines) > 1:
            size -= len(self._lines.pop(0))


def _at(second: str, fraction: str | None, zone: str) -> At:
    return datetime.fromisoformat(second + zone).timestamp(), int((fraction or "").ljust(9, "0"))

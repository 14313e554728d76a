"""A pod's log, put together from answers that overlap."""

import pytest

from training import podlog
from training.podlog import PodLog


class Answers:
    """A cluster that says what it is told."""

    def __init__(self) -> None:
        self.next = ""
        self.since: list[int | None] = []

    def output(self, pod: str, container: str, *, since_s: int | None = None) -> str:
        self.since.append(since_s)
        return self.next


def follow(*answers: list[str]) -> tuple[PodLog, list[bool], Answers]:
    cluster = Answers()
    log = PodLog(cluster, "pod", "training")  # type: ignore[arg-type]  # it asks for no more
    new = []
    for lines in answers:
        cluster.next = "\n".join(lines)
        new.append(log.follow())
    return log, new, cluster


def test_lines_of_one_moment_are_each_there_once() -> None:
    one, two = "2026-01-01T00:00:01.5Z a", "2026-01-01T00:00:01.51Z b"

    log, new, cluster = follow([one, two, two], [two, two], [two, two, two, two], [])

    assert log.text.splitlines() == ["a", "b", "b", "b", "b"]
    assert new == [True, False, True, False]
    assert cluster.since == [None, *[podlog.OVERLAP_S] * 3]


def test_the_node_s_own_time_zone_and_lines_without_a_time_are_taken() -> None:
    before, after = "2026-01-01T02:59:59.999+02:00 a", "2026-01-01T01:00:00Z b"

    log, new, _ = follow([before], [before, after, "rest of b"], [after, "rest of b"])

    assert log.text.splitlines() == ["a", "b", "rest of b"]
    assert new == [True, True, False]


def test_of_a_long_log_the_end_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(podlog, "LOG_LINES", 3)
    monkeypatch.setattr(podlog, "LOG_BYTES", 4)
    lines = [f"2026-01-01T00:00:0{n}Z {n}{n}" for n in range(9)]

    assert follow(lines[:5], lines[4:])[0].text.splitlines() == ["77", "88"]

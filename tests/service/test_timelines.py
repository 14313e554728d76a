"""What the pages draw over time."""

import re

import pytest

from service import timelines
from toploss.models import Version


def version(name: str, **metrics: float) -> Version:
    measured = {"metrics": {"test": metrics, "valid": metrics}} if metrics else {}
    return Version(
        name=name, run="r", path="p", manifest=measured, manifest_sha256="0", created_at=0.0
    )


def texts(drawing: str) -> list[str]:
    return re.findall(r"<text[^>]*>([^<]*)</text>", drawing)


@pytest.mark.parametrize(
    ("seconds", "dates"),
    [
        (3600, ["00:10", "00:30", "00:50"]),
        (60 * 86400, ["11 Jan", "31 Jan", "20 Feb"]),
        (720 * 86400, ["May 1970", "Dec 1970", "Aug 1971"]),
    ],
)
def test_growth_is_dated_as_finely_as_it_is_short(seconds: int, dates: list[str]) -> None:
    drawing = timelines.growth([(0.0, 1), (seconds / 2, 2_000_000)], now=seconds)
    assert set(dates) <= set(texts(drawing))
    assert "2M" in texts(drawing)
    assert timelines.growth([]) == ""


def test_versions_are_drawn_with_what_was_measured_of_them() -> None:
    several = [version("a"), version("b", accuracy=0.75, loss=float("nan")), version("c")]
    drawing = timelines.accuracies(several, "b")
    assert drawing.count("<circle") == 2
    assert "production" in texts(drawing)
    assert "0.7" in texts(drawing)
    assert timelines.losses(several, "b") == ""


def test_versions_of_no_loss_can_be_drawn() -> None:
    assert "nan" not in timelines.losses([version("a", loss=0.0)], None)

"""What rules and dashboard ask for is what the service tells, and the page says all of it."""

import pytest

from tests.monitoring.told import ROOT, alerts, asked, expressions, grouped, known, panels, rows

EXPRESSIONS = [
    pytest.param(told, id=f"{whose} {n}") for n, (whose, told) in enumerate(expressions())
]


def test_the_page_s_table_is_what_the_service_tells() -> None:
    page = (ROOT / "docs/monitoring.md").read_text()
    table = [line for line in page.splitlines() if line.startswith("| `toploss_")]
    assert table == rows()


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_names_and_labels_are_told(expression: str) -> None:
    series = asked(expression)
    assert series
    labels = set()
    for name, matchers in series:
        assert name in known(), name
        assert set(matchers) <= known()[name], name
        labels |= known()[name]
    assert grouped(expression) <= labels


def test_an_unknown_name_or_label_is_found() -> None:
    """Of the reading itself: a name within functions, ranges, groups and matchers."""
    told = 'sum by (job, le) (rate(toploss_redy{state="on", job=~".+"}[5m])) > bool 0 unless up'
    assert asked(told) == [("toploss_redy", {"state": "=on", "job": "=~.+"}), ("up", {})]
    assert grouped(told) == {"job", "le"}


def test_every_metric_of_ours_is_looked_at() -> None:
    """By an alert or on the dashboard; a histogram by one of its series."""
    seen = {name for _, told in expressions() for name, _ in asked(told)}
    for row in rows():
        name = row.split("`")[1]
        assert any(one == name or one.startswith(f"{name}_") for one in seen), name


def test_panels_lie_side_by_side() -> None:
    ids = [panel["id"] for panel in panels()]
    assert len(set(ids)) == len(ids)
    places = set()
    for panel in panels():
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not cells & places, panel["title"]
        assert at["x"] + at["w"] <= 24
        places |= cells


def test_alerts_have_names_of_their_own() -> None:
    names = [rule["alert"] for rule in alerts()]
    assert len(set(names)) == len(names) >= 12

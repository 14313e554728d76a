"""What the service tells Prometheus, and what rules and dashboard ask for."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from prometheus_client.metrics import MetricWrapperBase

from service import metrics

ROOT = Path(__file__).parents[2]
RULES = ROOT / "monitoring/rules.yml"
DASHBOARD = ROOT / "monitoring/dashboard.json"
SERIES = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}
OF_ALL_TARGETS = {"job", "instance"}  # labels that Prometheus adds
WORDS = {"by", "on", "or", "and", "unless", "bool", "offset", "without", "ignoring", "group_left"}


def families() -> list[Any]:
    """Ours, in the order in which they are defined."""
    found = vars(metrics).values()
    return [one for one in found if isinstance(one, MetricWrapperBase) and not one._labelvalues]


def rows() -> list[str]:
    """Of the table in docs/monitoring.md."""
    return [
        f"| `{family._name}{'_total' if family._type == 'counter' else ''}` | {family._type} "
        f"| {' '.join(f'`{label}`' for label in family._labelnames)} "
        f"| {'all' if family._name in metrics.OF_ALL else 'one'} | {family._documentation} |"
        for family in families()
    ]


def known() -> dict[str, set[str]]:
    """Every series by its name, and its labels."""
    found: dict[str, set[str]] = {"up": OF_ALL_TARGETS}
    for family in families():
        for end in SERIES[family._type]:
            le = {"le"} if end == "_bucket" else set()
            found[family._name + end] = {*family._labelnames, *le} | OF_ALL_TARGETS
    return found


def alerts() -> list[dict[str, Any]]:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def panels() -> list[dict[str, Any]]:
    return list(json.loads(DASHBOARD.read_text())["panels"])


def expressions() -> Iterator[tuple[str, str]]:
    """Whose, and the expression as Prometheus gets it from Grafana."""
    for rule in alerts():
        yield rule["alert"], rule["expr"]
    for panel in panels():
        for target in panel.get("targets", []):
            filled = target["expr"].replace("$__rate_interval", "5m").replace("$job", ".+")
            yield panel["title"], filled


def asked(expression: str) -> list[tuple[str, dict[str, str]]]:
    """The series that it asks for: name, and label → operator and value."""
    bare = re.sub(r"\b(by|on|without|ignoring)\s*\([^)]*\)", " ", expression)
    found = []
    for match in re.finditer(r"([a-zA-Z_:][\w:]*)\s*(\(|\{[^}]*\})?", _without_ranges(bare)):
        name, after = match[1], match[2] or ""
        if after == "(" or name in WORDS:
            continue
        matchers = re.findall(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"', after)
        found.append((name, {label: how + value for label, how, value in matchers}))
    return found


def grouped(expression: str) -> set[str]:
    """The labels that it groups by."""
    lists = re.findall(r"\b(?:by|on|without|ignoring)\s*\(([^)]*)\)", expression)
    return {label.strip() for one in lists for label in one.split(",")}


def _without_ranges(expression: str) -> str:
    return re.sub(r"\[[^\]]*\]", " ", expression)

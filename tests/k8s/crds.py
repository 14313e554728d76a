"""Of objects that are not Kubernetes' own: the fields that we use, by hand from their makers'
references (Prometheus operator v1, Kueue v1beta2). What is not named here is refused."""

from typing import Any

TEXT = {"type": "string"}
TEXTS = {"type": "object", "additionalProperties": TEXT}


def _object(required: dict[str, Any], optional: dict[str, Any] | None = None) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": required | (optional or {}),
        "required": list(required),
        "additionalProperties": False,
    }


def _list(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items, "minItems": 1}


def _kind(version: str, spec: dict[str, Any] | None, *, namespaced: bool = True) -> dict[str, Any]:
    named = {"name": TEXT, "labels": TEXTS} | ({"namespace": TEXT} if namespaced else {})
    parts = {"apiVersion": {"const": version}, "kind": TEXT}
    parts["metadata"] = _object(named, {"annotations": TEXTS})
    return _object(parts | ({"spec": spec} if spec else {}))


DURATION = {"type": "string", "pattern": "^([0-9]+(ms|s|m|h|d|w|y))+$"}
SELECTOR = _object({"matchLabels": TEXTS})
RULE = _object(
    {"expr": TEXT},
    {
        "alert": TEXT,
        "record": TEXT,
        "for": DURATION,
        "keep_firing_for": DURATION,
        "labels": TEXTS,
        "annotations": TEXTS,
    },
)
ENDPOINT = _object(
    {
        "port": TEXT,
        "path": TEXT,
        "interval": DURATION,
        "scrapeTimeout": DURATION,
        "authorization": _object(
            {"type": {"const": "Bearer"}, "credentials": _object({"name": TEXT, "key": TEXT})}
        ),
    }
)
QUANTITY = {"type": ["integer", "string"]}
COVERED = _object(
    {
        "coveredResources": _list(TEXT),
        "flavors": _list(
            _object(
                {
                    "name": TEXT,
                    "resources": _list(_object({"name": TEXT, "nominalQuota": QUANTITY})),
                }
            )
        ),
    }
)

SCHEMAS = {
    "PodMonitor": _kind(
        "monitoring.coreos.com/v1",
        _object({"selector": SELECTOR, "podMetricsEndpoints": _list(ENDPOINT)}),
    ),
    "PrometheusRule": _kind(
        "monitoring.coreos.com/v1",
        _object(
            {"groups": _list(_object({"name": TEXT, "rules": _list(RULE)}, {"interval": DURATION}))}
        ),
    ),
    "ResourceFlavor": _kind("kueue.x-k8s.io/v1beta2", None, namespaced=False),
    "ClusterQueue": _kind(
        "kueue.x-k8s.io/v1beta2",
        _object(
            {
                "namespaceSelector": SELECTOR,
                "queueingStrategy": {"enum": ["BestEffortFIFO", "StrictFIFO"]},
                "resourceGroups": _list(COVERED),
            }
        ),
        namespaced=False,
    ),
    "LocalQueue": _kind("kueue.x-k8s.io/v1beta2", _object({"clusterQueue": TEXT})),
}

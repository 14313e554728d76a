"""Who may speak with whom: nobody, but for these."""

import pytest

from tests.k8s.rendered import Json, Pod, of_kind, one, pod, pods, selects

DNS, POSTGRES, S3 = {("TCP", 53), ("UDP", 53)}, {("TCP", 5432)}, {("TCP", 443), ("TCP", 9000)}
GOES_OUT = {  # a pod's component: the ports that it may reach
    "service": DNS | POSTGRES | S3,
    "dispatcher": DNS | POSTGRES | S3 | {("TCP", 6443)},
    "schedule": DNS | POSTGRES | S3,
    "migration": DNS | POSTGRES,
    "training": DNS | POSTGRES | S3,
}


def policies(objects: list[Json], pod: Pod, way: str) -> list[Json]:
    return [
        made["spec"]
        for made in of_kind(objects, "NetworkPolicy")
        if made["metadata"]["namespace"] == pod.namespace
        and selects(made["spec"]["podSelector"], pod.labels)
        and way in made["spec"]["policyTypes"]
        and made["metadata"]["name"] != "together"  # see its own test
    ]


def ports(rules: list[Json]) -> set[tuple[str, int | str]]:
    assert all(rule["ports"] for rule in rules)  # none of them would be all of them
    return {(port["protocol"], port["port"]) for rule in rules for port in rule["ports"]}


def test_every_namespace_denies_by_default(objects: list[Json]) -> None:
    for namespace in of_kind(objects, "Namespace"):
        name = namespace["metadata"]["name"]
        assert one(objects, "NetworkPolicy", "default-deny", name)["spec"] == {
            "podSelector": {},
            "policyTypes": ["Ingress", "Egress"],
        }


def test_pods_reach_what_they_need_and_no_more(spread: list[Json]) -> None:
    found = {
        each.labels["app.kubernetes.io/component"]: ports(
            [rule for spec in policies(spread, each, "Egress") for rule in spec.get("egress", [])]
        )
        for each in pods(spread)
    }

    assert found == GOES_OUT


def test_one_pod_reaches_the_internet_alone(dev: list[Json]) -> None:
    (only,) = pods(dev)
    rules = [rule for spec in policies(dev, only, "Egress") for rule in spec.get("egress", [])]

    assert ports(rules) == DNS | {("TCP", 443)}


def test_nobody_but_the_dispatcher_reaches_the_clouds_metadata(objects: list[Json]) -> None:
    """It gives out the node's rights. The dispatcher's rule has to leave the address open."""
    for made in of_kind(objects, "NetworkPolicy"):
        for rule in made["spec"].get("egress", []):
            open_to_all = "to" not in rule
            assert open_to_all == (made["metadata"]["name"] == "dispatcher")
            for peer in rule.get("to", []):
                block = peer.get("ipBlock", {})
                if block.get("cidr") == "0.0.0.0/0":
                    assert "169.254.0.0/16" in block["except"]


def test_only_the_service_is_called_and_only_from_where_it_is_allowed(objects: list[Json]) -> None:
    for each in pods(objects):
        specs = policies(objects, each, "Ingress")
        rules = [rule for spec in specs for rule in spec.get("ingress", [])]
        if each.labels["app.kubernetes.io/component"] != "service":
            assert rules == []
            continue
        assert ports(rules) == {("TCP", "http")}
        for rule in rules:
            for peer in rule["from"]:
                (label,) = peer["namespaceSelector"]["matchLabels"].items()
                assert label in {("toploss/callers", "yes"), ("toploss/metrics", "yes")}


def test_prometheus_is_let_in_with_monitoring(
    production: list[Json], everything: list[Json]
) -> None:
    with pytest.raises(AssertionError):
        one(production, "NetworkPolicy", "metrics")
    one(everything, "NetworkPolicy", "metrics")


def test_machines_speak_with_each_other_alone(machines: list[Json]) -> None:
    spec = one(machines, "NetworkPolicy", "together", "toploss-training")["spec"]
    training = pod(machines, "training")

    assert selects(spec["podSelector"], training.labels)
    assert spec["ingress"] == [{"from": [{"podSelector": spec["podSelector"]}]}]
    assert spec["egress"] == [{"to": [{"podSelector": spec["podSelector"]}]}]

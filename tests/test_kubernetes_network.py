"""Who reaches whom in Kubernetes: the origin's routes, and network policies read as the cluster reads them."""

from __future__ import annotations

import ipaddress
import random
import re
from pathlib import Path

import pytest
from kustomize import FOLDER, ROOT, here, render
from manifests import Json, only, pods

from homeroom_local.origin import ROUTES, find_service

OUR_API, POSTGRES, KAFKA, DNS = 8000, 5432, 9093, 53
NEEDS = {
    "origin": {"sso", "sync-scheduler", "provider-gateway", "roster-store"},
    "sso": {"postgres", "roster-store", "internet"},
    "sso-worker": {"postgres", "kafka", "internet"},
    "sync-scheduler": {"postgres", "sso"},
    "sync-scheduler-worker": {"postgres", "kafka", "internet"},
    "provider-gateway": {"kafka", "sso"},
    "provider-gateway-inbox": {"kafka"},
    "provider-gateway-worker": {"kafka", "sso", "roster-store", "internet"},
    "roster-store": {"postgres", "sso"},
    "roster-store-worker": {"postgres", "kafka", "internet"},
    "sso-migrate": {"postgres"},
    "sync-scheduler-migrate": {"postgres"},
    "roster-store-migrate": {"postgres"},
}
"""Pod → what it may reach, beside names and traces; a region's workers count as one."""
PLATFORM = {
    "postgres": {"cnpg.io/cluster": "homeroom-postgres"},
    "kafka": {"strimzi.io/cluster": "homeroom", "strimzi.io/kind": "Kafka", "strimzi.io/name": "homeroom-kafka"},
}
"""What the operators label their Pods with."""
PORTS = {"postgres": POSTGRES, "kafka": KAFKA}


@pytest.fixture(scope="module")
def manifests() -> list[Json]:
    """Everything, the platform included."""
    return [*here(render, FOLDER), *here(render, FOLDER / "platform")]


@pytest.fixture(scope="module")
def there(manifests: list[Json]) -> dict[str, dict[str, str]]:
    """Every kind of Pod and its labels."""
    found = {}
    for name, template in pods(manifests):
        labels = template["metadata"]["labels"]
        found[name.partition("/")[2].removesuffix("-" + labels.get("homeroom/region", "-"))] = labels
    return found | PLATFORM


# ── routes ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _read_routes(path: Path) -> list[tuple[str, str]]:
    """The table of routes of an origin's configuration."""
    table = re.search(r"map \$request_uri \$service \{(.*?)\n    \}", path.read_text("utf-8"), re.DOTALL)
    assert table
    return re.findall(r"~(\S+)\s+\"?([\w-]*)\"?;", table[1])


def test_the_origin_has_the_routes_of_the_others(manifests: list[Json]) -> None:
    """The origin's table is that of Compose's, which tests hold to the contract and to what services serve."""
    routes = _read_routes(FOLDER / "base/nginx.conf")
    assert routes == _read_routes(ROOT / "deploy/compose/nginx.conf")
    compiled = [(re.compile(rule), service) for rule, service in routes]
    below = [f"{prefix}/x" for prefix in ROUTES]
    for path in (*ROUTES, *below, "/v1/integrations/1/uploads", "/v1/runs/../changes", "/livez", "/metrics", "/"):
        led = next((service for rule, service in compiled if rule.search(path)), None) or None
        assert led == find_service(path), path
    [configured] = [found["data"] for found in only(manifests, "ConfigMap") if "nginx.conf" in found["data"]]
    services = {found["metadata"]["name"] for found in only(manifests, "Service")}
    upstreams = re.findall(r"upstream (\S+) +\{ server (\S+):8000; \}", configured["nginx.conf"])
    assert {name for name, _ in upstreams} == {service for _, service in routes if service} <= services
    assert all(name == server for name, server in upstreams)


def test_the_ingress_leads_to_the_origin(manifests: list[Json]) -> None:
    """Everything under the issuer's host, and nothing else, comes in, to the origin, with TLS."""
    [ingress] = only(manifests, "Ingress")
    [settings] = [found["data"] for found in only(manifests, "ConfigMap") if "HOMEROOM_ISSUER" in found["data"]]
    host = settings["HOMEROOM_ISSUER"].removeprefix("https://")
    [rule] = ingress["spec"]["rules"]
    assert (rule["host"], ingress["spec"]["tls"][0]["hosts"]) == (host, [host])
    assert [(path["path"], path["backend"]["service"]["name"]) for path in rule["http"]["paths"]] == [("/", "origin")]


# ── policies ──────────────────────────────────────────────────────────────────────────────────────────────────────


def _selects(selector: Json, labels: dict[str, str]) -> bool:
    """Whether a label selector matches; an empty one matches all."""
    return selector.get("matchLabels", {}).items() <= labels.items() and all(
        labels.get(rule["key"]) in rule["values"] for rule in selector.get("matchExpressions", ())
    )


def _rules(manifests: list[Json], way: str, labels: dict[str, str]) -> list[Json]:
    """The rules that hold for a Pod in one direction; what no policy selects would be free, so that is refused."""
    policies = [
        found["spec"]
        for found in only(manifests, "NetworkPolicy")
        if _selects(found["spec"]["podSelector"], labels) and way.title() in found["spec"]["policyTypes"]
    ]
    assert policies, f"no policy holds {labels}"
    return [rule for policy in policies for rule in policy.get(way, ())]


def _allows(rule: Json, labels: dict[str, str], port: int) -> bool:
    """Whether a rule lets a Pod of this namespace through."""
    peers = rule.get("from", rule.get("to"))
    among = peers is None or any(
        "namespaceSelector" not in peer and "podSelector" in peer and _selects(peer["podSelector"], labels)
        for peer in peers
    )
    return among and any(_has(each, port) for each in rule.get("ports", [{"port": port}]))


def _has(each: Json, port: int) -> bool:
    return bool(each["port"] <= port <= each.get("endPort", each["port"]))


def _reaches_internet(manifests: list[Json], labels: dict[str, str], address: str) -> bool:
    """Whether a Pod may reach an address outside of the cluster."""
    found = ipaddress.ip_address(address)
    blocks = [
        peer["ipBlock"]
        for rule in _rules(manifests, "egress", labels)
        for peer in rule.get("to", ())
        if "ipBlock" in peer
    ]
    return any(
        found in ipaddress.ip_network(block["cidr"])
        and not any(found in ipaddress.ip_network(other) for other in block.get("except", ()))
        for block in blocks
    )


def test_each_reaches_what_it_needs_and_nothing_else(manifests: list[Json], there: dict[str, dict[str, str]]) -> None:
    """Between any two kinds of Pods both ends allow a connection if, and only if, one needs the other."""
    assert NEEDS.keys() | PLATFORM.keys() == there.keys()
    for caller, needs in NEEDS.items():
        for called, labels in there.items():
            port = PORTS.get(called, OUR_API)
            out = any(_allows(rule, labels, port) for rule in _rules(manifests, "egress", there[caller]))
            # Strimzi makes the policies of its listeners itself, from `networkPolicyPeers`.
            taken = called == "kafka" or any(
                _allows(rule, there[caller], port) for rule in _rules(manifests, "ingress", labels)
            )
            assert (out and taken) == (called in needs), (caller, called)
        assert _reaches_internet(manifests, there[caller], "93.184.216.34") == ("internet" in needs), caller


def test_kafka_lets_in_who_needs_it(manifests: list[Json], there: dict[str, dict[str, str]]) -> None:
    """Strimzi opens Kafka's listener to our Pods and to KEDA, and to nobody else."""
    [kafka] = only(manifests, "Kafka")
    [listener] = kafka["spec"]["kafka"]["listeners"]
    ours, keda = listener["networkPolicyPeers"]
    assert (listener["port"], listener["tls"], listener["authentication"]["type"]) == (KAFKA, True, "scram-sha-512")
    assert all(_selects(ours["podSelector"], there[name]) for name, needs in NEEDS.items() if "kafka" in needs)
    assert not any(_selects(ours["podSelector"], labels) for labels in PLATFORM.values())
    assert keda == {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "keda"}}}


def test_nobody_else_reaches_anybody(manifests: list[Json], there: dict[str, dict[str, str]]) -> None:
    """A stranger among the Pods reaches none of ours, and none reaches it."""
    stranger = {"app": "stranger"}
    assert _rules(manifests, "ingress", stranger) == _rules(manifests, "egress", stranger) == []
    for name, labels in there.items():
        ports = [PORTS.get(name, OUR_API)]
        assert not any(
            _allows(rule, stranger, port) for rule in _rules(manifests, "ingress", labels) for port in ports
        ), name


def test_everybody_resolves_names(manifests: list[Json], there: dict[str, dict[str, str]]) -> None:
    """Each of our Pods reaches the cluster's DNS, and the monitoring's Prometheus reaches each."""
    for name in NEEDS:
        out = _rules(manifests, "egress", there[name])
        assert any(any(_has(each, DNS) for each in rule.get("ports", ())) for rule in out), name
        monitored = [
            rule
            for rule in _rules(manifests, "ingress", there[name])
            for peer in rule.get("from", ())
            if peer.get("namespaceSelector", {}).get("matchLabels", {}).get("kubernetes.io/metadata.name")
            == "monitoring"
        ]
        assert monitored, name


def test_the_internet_is_no_private_network(manifests: list[Json], there: dict[str, dict[str, str]]) -> None:
    """Who may reach the internet reaches no address that is private, local, reserved, or stands for one."""
    chance = random.Random(5)
    edges = ["10.0.0.1", "127.0.0.1", "169.254.169.254", "172.16.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1"]
    edges += ["0.0.0.0", "224.0.0.1", "255.255.255.255", "198.18.0.1", "::1", "fd00::1", "fe80::1", "ff02::1"]  # noqa: S104 - not bound to
    edges += ["::ffff:10.0.0.1", "64:ff9b::a00:1", "2002:a00:1::1", "2001:db8::1", "2001:0:a00:1::1"]
    drawn = [str(ipaddress.IPv4Address(chance.getrandbits(32))) for _ in range(2000)]
    drawn += [str(ipaddress.IPv6Address(chance.getrandbits(128))) for _ in range(500)]
    for caller in (there["provider-gateway-worker"], there["sso"]):  # by one policy each
        assert not any(_reaches_internet(manifests, caller, address) for address in edges)
        reached = [address for address in drawn if _reaches_internet(manifests, caller, address)]
        assert len(reached) > 1500
        assert all(ipaddress.ip_address(address).is_global for address in reached)
        assert not any(ipaddress.ip_address(address).is_multicast for address in reached)
        for address in ("1.1.1.1", "8.8.8.8", "172.32.0.1", "192.169.0.1", "2606:4700:4700::1111"):
            assert _reaches_internet(manifests, caller, address), address

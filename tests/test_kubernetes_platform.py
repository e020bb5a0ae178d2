"""Regions and their scaling, Kafka's topics and users, Postgres' roles: in step with the code that uses them."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from secrets import token_hex
from urllib.parse import urlsplit
from uuid import UUID

import asyncpg
import pytest
import yaml
from kustomize import FOLDER, here, render
from manifests import Json, environment_of, name_of, only, ours, settings_of

from homeroom import messages
from homeroom.bus import Topic, deadletter
from homeroom.migrate import migrate
from homeroom.secrets import generate_key
from homeroom.service import STOP_SECONDS, _within_bounds
from homeroom.testing.kafka import kafka_version
from homeroom_local.asyncapi import CHANNELS
from homeroom_local.documents import SERVICES
from provider_gateway.app import _run_worker
from roster_store.changes import GROUP as STORE_GROUP
from roster_store.subscriptions.outlets import topic_of
from sso.launch.licenses import GROUP as TENANCY_GROUP
from sync_scheduler.ticking import GROUP as SCHEDULER_GROUP

GROUPS = {
    "sync-scheduler": [SCHEDULER_GROUP],
    "roster-store": [STORE_GROUP],
    "sso": [TENANCY_GROUP],
    "provider-gateway": [
        f"provider-gateway.{asked}{region}" for asked in ("", "asked.") for region in messages.REGIONS
    ],
}
"""Service → its consumer groups."""


@pytest.fixture(scope="module")
def manifests() -> list[Json]:
    """What `kubectl apply -k deploy/k8s` sends."""
    return here(render, FOLDER)


@pytest.fixture(scope="module")
def platform() -> list[Json]:
    """What `kubectl apply -k deploy/k8s/platform` sends."""
    return here(render, FOLDER / "platform")


# ── regions ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_every_region_has_its_workers(manifests: list[Json]) -> None:
    """Each region, and no other, has a Deployment that takes its jobs only, and shares nothing with other regions."""
    folders = {path.name for path in (FOLDER / "regions").iterdir()} - {"worker"}
    assert folders == set(messages.REGIONS)
    told = {}
    for name, service, role, template in ours(manifests):
        if (service.name, role) == ("provider-gateway", "worker"):
            region = template["metadata"]["labels"]["homeroom/region"]
            told[name] = environment_of(manifests, template["spec"]["containers"][0])["HOMEROOM_REGIONS"]
            assert name == f"Deployment/provider-gateway-worker-{region}"
            assert told[name] == region
    assert sorted(told.values()) == sorted(messages.REGIONS)


@pytest.mark.parametrize("region", messages.REGIONS)
def test_a_region_is_whole_by_itself(region: str) -> None:
    """A region's folder renders alone, and everything in it carries the region's name."""
    alone = here(render, FOLDER / "regions" / region)
    kinds = {"Deployment", "ScaledObject", "TriggerAuthentication", "PodDisruptionBudget", "ConfigMap"}
    assert {found["kind"] for found in alone} == kinds
    assert all(f"-{region}" in found["metadata"]["name"] for found in alone)
    assert yaml.safe_dump_all(alone).count("the-region") == 0


@pytest.mark.parametrize("region", messages.REGIONS)
def test_regions_scale_on_what_waits(manifests: list[Json], region: str) -> None:
    """A region's workers follow the lag of its own jobs, as the code names topic and group, within the partitions."""
    name = f"provider-gateway-worker-{region}"
    [scaled] = [found["spec"] for found in only(manifests, "ScaledObject") if found["metadata"]["name"] == name]
    [trigger] = scaled["triggers"]
    topic = messages.jobs_topic(region)
    [partitions] = [found.partitions for found in messages.JOB_TOPICS if found.name == topic]
    assert scaled["scaleTargetRef"] == {"name": name}
    assert (trigger["type"], trigger["metadata"]["topic"]) == ("kafka", topic)
    assert trigger["metadata"]["consumerGroup"] == f"provider-gateway.{region}" in GROUPS["provider-gateway"]
    assert 2 <= scaled["minReplicaCount"] <= scaled["maxReplicaCount"] <= partitions
    assert (trigger["metadata"]["lagThreshold"], trigger["metadata"]["offsetResetPolicy"]) == ("1", "earliest")
    assert all(isinstance(value, str) for value in trigger["metadata"].values())  # KEDA reads nothing else
    settings = next(found["data"] for found in only(manifests, "ConfigMap") if "HOMEROOM_KAFKA" in found["data"])
    host, port = settings["HOMEROOM_KAFKA"].split(":")
    assert trigger["metadata"]["bootstrapServers"] == f"{host}.homeroom:{port}"
    down = scaled["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]["scaleDown"]
    assert down["stabilizationWindowSeconds"] >= 600
    assert [(policy["value"], policy["periodSeconds"] >= 300) for policy in down["policies"]] == [(1, True)]


def test_keda_signs_in_as_its_own_user(manifests: list[Json], platform: list[Json]) -> None:
    """What KEDA signs in to Kafka with exists, and may see how long the queues of jobs are, and nothing else."""
    maps = {found["metadata"]["name"]: found["data"] for found in only(manifests, "ConfigMap")}
    for found in only(manifests, "TriggerAuthentication"):
        [user] = found["spec"]["configMapTargetRef"]
        keys = {target["parameter"]: (target["name"], target["key"]) for target in found["spec"]["secretTargetRef"]}
        assert maps[user["name"]][user["key"]] == "keda", name_of(found)
        assert keys == {"password": ("kafka-keda", "password"), "ca": ("homeroom-cluster-ca-cert", "ca.crt")}
    [keda] = [found for found in only(platform, "KafkaUser") if found["metadata"]["name"] == "keda"]
    assert {word for acl in keda["spec"]["authorization"]["acls"] for word in acl["operations"]} == {"Describe"}
    for region in messages.REGIONS:
        assert _may(keda, "topic", messages.jobs_topic(region), "Describe")
        assert _may(keda, "group", f"provider-gateway.{region}", "Describe")
    assert not _may(keda, "topic", "roster-events", "Describe")


def test_running_jobs_may_finish(manifests: list[Json], monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that should end has the hour it is given here to finish its jobs, and is not cut off before."""
    told: Json = {}
    monkeypatch.setattr("provider_gateway.app.run_worker", lambda *_, **keywords: told.update(keywords))
    [template] = [template for name, *_, template in ours(manifests) if name.endswith("-worker-us")]
    environment = environment_of(manifests, template["spec"]["containers"][0])
    for variable in ("HOMEROOM_GRACE_SECONDS", "HOMEROOM_ISSUER", "HOMEROOM_KAFKA"):
        monkeypatch.setenv(variable, environment[variable])
    monkeypatch.setenv("HOMEROOM_GATEWAY_PRIVATE_KEYS", generate_key()[0])
    _run_worker()
    assert told["stop_seconds"] >= float(environment["HOMEROOM_GRACE_SECONDS"]) == 3600
    assert template["spec"]["terminationGracePeriodSeconds"] > told["stop_seconds"] + STOP_SECONDS


async def test_a_worker_that_never_ends_is_cut_off() -> None:
    """Once a worker should end, it has the seconds it asked for, and not one more."""
    stop = asyncio.Event()
    stop.set()
    await _within_bounds(asyncio.sleep(0.1), stop, 5)
    with pytest.raises(TimeoutError):
        await _within_bounds(asyncio.sleep(5), stop, 0.1)


# ── Kafka ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_topics_are_those_of_the_code(platform: list[Json]) -> None:
    """Every topic of the code is there as the code would make it, on three brokers of which one may be away."""

    def lay_out(topic: Topic) -> Json:
        kept = (
            {"cleanup.policy": "compact"}
            if topic.compacted
            else {"cleanup.policy": "delete", "retention.ms": topic.retention_seconds * 1000}
        )
        return {"partitions": topic.partitions, "replicas": 3, "config": kept | {"min.insync.replicas": 2}}

    found = {topic["metadata"]["name"]: topic["spec"] for topic in only(platform, "KafkaTopic")}
    assert found == {topic.name: lay_out(topic) for topic in messages.TOPICS}
    [cluster], [nodes] = only(platform, "Kafka"), only(platform, "KafkaNodePool")
    assert cluster["spec"]["kafka"]["version"] == kafka_version()
    assert cluster["spec"]["kafka"]["config"]["auto.create.topics.enable"] == "false"
    assert nodes["spec"]["replicas"] == 3
    for each in (*only(platform, "KafkaTopic", "KafkaUser"), nodes):
        assert each["metadata"]["labels"]["strimzi.io/cluster"] == cluster["metadata"]["name"], name_of(each)


def _may(user: Json, kind: str, name: str, operation: str) -> bool:
    """Whether Kafka lets a user do something; who may read or write may also see."""
    implied = {operation} | ({"Read", "Write"} if operation == "Describe" else set())
    for acl in user["spec"]["authorization"]["acls"]:
        resource = acl["resource"]
        prefix = resource.get("patternType") == "prefix"
        fits = resource["name"] == "*" or (name.startswith(resource["name"]) if prefix else name == resource["name"])
        if resource["type"] == kind and fits and implied & set(acl["operations"]):
            return True
    return False


def test_users_may_do_what_their_service_does(platform: list[Json]) -> None:
    """Each service may write what it sends, read what it receives and bury what it can't read, and nothing more."""
    users = {found["metadata"]["name"]: found for found in only(platform, "KafkaUser")}
    services = {service for channel in CHANNELS for service in (*channel.senders, *channel.receivers)}
    assert users.keys() == services | {"keda"}
    regional = (*messages.JOB_TOPICS, *messages.INQUIRY_TOPICS)
    for service in services:
        user = users[service]
        for channel in CHANNELS:
            topics = [topic for topic in regional if topic.name.startswith(f"{channel.name}.")] or [channel.topic]
            sends, receives = service in channel.senders, service in channel.receivers
            for topic in topics:
                letters = deadletter.topic_for(topic.name)
                # Whoever receives also sends dead letters again, to where they came from.
                assert _may(user, "topic", topic.name, "Write") == (sends or receives), (service, topic.name)
                assert _may(user, "topic", topic.name, "Read") == receives, (service, topic.name)
                assert _may(user, "topic", topic.name, "Describe"), (service, topic.name)
                buries = all(_may(user, "topic", letters, word) for word in ("Create", "Write", "Read"))
                assert buries >= receives, (service, letters)
                assert receives or not _may(user, "topic", letters, "Read"), (service, letters)
        # Topics of products are made when a product first asks for one (docs/events.md).
        topic = topic_of(UUID(int=0)).name
        made = all(_may(user, "topic", topic, word) for word in ("Create", "Write"))
        assert made == (service == "roster-store"), service
        assert not _may(user, "topic", topic, "Read"), service
        assert _may(user, "group", deadletter.NOBODY, "Describe"), service
        for owner, groups in GROUPS.items():
            for group in groups:
                assert _may(user, "group", group, "Read") == (owner == service), (service, group)


# ── Postgres ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_postgres_keeps_what_was_committed(platform: list[Json]) -> None:
    """There are three instances, and what was committed is on two of them."""
    [cluster] = only(platform, "Cluster")
    assert cluster["spec"]["instances"] == 3
    assert cluster["spec"]["postgresql"]["synchronous"] == {"method": "any", "number": 1, "dataDurability": "required"}
    assert int(cluster["spec"]["imageName"].rpartition(":")[2].split(".")[0]) >= 17


def test_connections_are_enough(manifests: list[Json], platform: list[Json]) -> None:
    """All Pods at their most, and one more of each while they are replaced, fit into what Postgres takes."""
    most = {
        found["spec"]["scaleTargetRef"]["name"]: found["spec"]["maxReplicas"]
        for found in only(manifests, "HorizontalPodAutoscaler")
    }
    replicas = {found["metadata"]["name"]: found["spec"].get("replicas", 0) for found in only(manifests, "Deployment")}
    needed = 0
    for name, service, role, template in ours(manifests):
        if "HOMEROOM_DATABASE_URL_FILE" not in environment_of(manifests, template["spec"]["containers"][0]):
            continue
        pool = settings_of(service, role).model_fields["database_pool_size"].default
        deployment = name.partition("/")[2]
        # Workers listen on one connection beside the pool.
        needed += 1 if role == "migrate" else (pool + 1) * (most.get(deployment, replicas[deployment]) + 1)
    [cluster] = only(platform, "Cluster")
    assert 100 < needed <= int(cluster["spec"]["postgresql"]["parameters"]["max_connections"]) - 20


async def test_each_service_has_a_role_of_its_own(platform: list[Json], database_url: str) -> None:
    """As the roles that are made, each service migrates its own schema and can't read another's."""
    [cluster] = only(platform, "Cluster")
    spec = cluster["spec"]
    managed = {found["name"]: found for found in spec["managed"]["roles"]}
    roles = {name: found["passwordSecret"]["name"] for name, found in managed.items() if found["login"]}
    with_schema = [service for service in SERVICES if service.name != "provider-gateway"]
    assert roles == {service.package: f"postgres-{service.name}" for service in with_schema}

    mark = token_hex(4)  # roles belong to the whole server, which other tests use
    names = {role: f"{role}_{mark}" for role in roles}
    admin = await asyncpg.connect(database_url, timeout=10)
    try:
        database = urlsplit(database_url).path.strip("/")
        for statement in spec["bootstrap"]["initdb"]["postInitApplicationSQL"]:
            words = statement.replace("DATABASE homeroom ", f'DATABASE "{database}" ')
            for role, name in names.items():
                words = words.replace(role, name)
            await admin.execute(words)
        for shared in managed.keys() - names.keys():  # what migrations name themselves, so they are as they are called
            with suppress(asyncpg.DuplicateObjectError, asyncpg.UniqueViolationError):
                await admin.execute(f"CREATE ROLE {shared} NOLOGIN")
        for role, name in names.items():
            inherit = "INHERIT" if managed[role].get("inherit", True) else "NOINHERIT"
            await admin.execute(f"ALTER ROLE {name} LOGIN PASSWORD '{mark}' {inherit}")
            for shared in managed[role].get("inRoles", ()):
                await admin.execute(f"GRANT {shared} TO {name}")
                assert not await admin.fetchval("SELECT pg_has_role($1::name, $2::name, 'USAGE')", name, shared)
        schemas = {"sync_scheduler": "scheduler", "roster_store": "roster", "sso": "sso"}
        for role, name in names.items():
            assert await migrate(_as(database_url, name, mark), schema=schemas[role], package=role)
        for role, name in names.items():
            seen = await asyncpg.connect(_as(database_url, name, mark), timeout=10)
            try:
                for other, schema in schemas.items():
                    assert await seen.fetchval("SELECT has_schema_privilege($1, 'USAGE')", schema) == (other == role)
            finally:
                await seen.close(timeout=10)
    finally:
        for name in names.values():
            await admin.execute(f"DROP OWNED BY {name} CASCADE")
            await admin.execute(f"DROP ROLE {name}")
        await admin.close(timeout=10)


def _as(url: str, role: str, password: str) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=f"{role}:{password}@{parts.netloc.rpartition('@')[2]}").geturl()

"""What stands in deploy/k8s: rendered as `kubectl apply -k` does, taken by Kubernetes, in step with the services."""

from __future__ import annotations

import asyncio
import importlib
import os
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import jsonschema
import kubernetes_validate
import pytest
from kustomize import FOLDER, ROOT, SCHEMAS, check_strimzi, here, load_schemas, render
from manifests import Json, environment_of, mounted, name_of, only, ours, pods, settings_of

from homeroom.migrate import migrate
from homeroom.secrets import SealingKeys, seal
from homeroom.service import DRAIN_SECONDS, STOP_SECONDS
from homeroom_local.documents import SERVICES
from provider_gateway.inbox.host_key import fingerprints

OLDEST, NEWEST = "1.31", "1.37"
"""Of the versions of Kubernetes whose schemas everything is checked with; README.md promises the first."""
SERVING = {"api", "worker", "inbox"}
SECRETS = "/run/secrets/homeroom/"


@pytest.fixture(scope="module")
def manifests() -> list[Json]:
    """What `kubectl apply -k deploy/k8s` sends."""
    return here(render, FOLDER)


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> list[Json]:
    """What `kubectl apply -k deploy/k8s/platform` sends, with backups turned on."""
    copy = tmp_path_factory.mktemp("k8s") / "k8s"
    shutil.copytree(FOLDER, copy)
    told = copy / "platform/kustomization.yaml"
    text = told.read_text("utf-8")
    assert "\n# components: [backup]\n" in text
    told.write_text(text.replace("\n# components: [backup]\n", "\ncomponents: [backup]\n"), "utf-8")
    return here(render, copy / "platform")


@pytest.fixture(scope="module")
def secrets() -> dict[str, dict[str, str]]:
    """The Secrets that are made, by name and key."""
    made = runpy.run_path(str(FOLDER / "secret_manifests.py"))["make_secrets"]()
    return {found["metadata"]["name"]: found["stringData"] for found in made}


# ── rendered and taken ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_kubernetes_takes_every_manifest(manifests: list[Json], platform: list[Json], version: str) -> None:
    """Every manifest of a kind of Kubernetes' own is valid by its schema, which knows every field in it."""
    foreign = set()
    for manifest in (*manifests, *platform):
        try:
            kubernetes_validate.validate(manifest, version, strict=True)
        except kubernetes_validate.SchemaNotFoundError:
            foreign.add(manifest["apiVersion"].partition("/")[0])
        except kubernetes_validate.ValidationError as error:
            pytest.fail(f"{name_of(manifest)}: {error.message}")
    assert foreign == {*SCHEMAS, "kafka.strimzi.io", "barmancloud.cnpg.io"}


@pytest.mark.parametrize("group", SCHEMAS)
def test_operators_take_their_resources(manifests: list[Json], platform: list[Json], group: str) -> None:
    """What KEDA and CloudNativePG act on is valid by the schemas they install, which know every field in it."""
    schemas = here(load_schemas, group)
    found = [manifest for manifest in (*manifests, *platform) if manifest["apiVersion"].startswith(f"{group}/")]
    assert found
    for manifest in found:
        validator = jsonschema.Draft202012Validator(schemas[manifest["apiVersion"], manifest["kind"]])
        assert [f"{name_of(manifest)}: {error.message}" for error in validator.iter_errors(manifest)] == []


def test_strimzi_takes_its_resources(platform: list[Json]) -> None:
    """Strimzi's own classes can read what it acts on, and know every field in it."""
    found = [manifest for manifest in platform if manifest["apiVersion"] == "kafka.strimzi.io/v1"]
    broken = {**found[0], "metadata": {"name": "broken"}, "spec": {**found[0]["spec"], "misspelled": 1}}
    assert here(check_strimzi, [*found, broken]) == [f"{name_of(broken)}.spec.misspelled is unknown"]


@pytest.mark.parametrize("part", ["base", "platform", "migrations"])
def test_parts_render_by_themselves(part: str) -> None:
    """Each part can be rendered alone, to be put together otherwise."""
    assert here(render, FOLDER / part)


def test_nothing_is_made_twice(manifests: list[Json]) -> None:
    """Every resource has a name of its own, in the namespace of the installation."""
    names = [name_of(found) for found in manifests]
    assert len(names) == len(set(names))
    assert {found["metadata"].get("namespace") for found in manifests if found["kind"] != "Namespace"} == {"homeroom"}


# ── what runs ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_every_service_runs_in_every_role(manifests: list[Json]) -> None:
    """Each service has a Deployment for each of its roles, and a Job that migrates where it has a schema."""
    wanted = {(service.name, role) for service in SERVICES for role in service.roles}
    wanted |= {(service.name, "migrate") for service in SERVICES if service.name != "provider-gateway"}
    assert {(service.name, role) for _, service, role, _ in ours(manifests)} == wanted
    for name, service, role, template in ours(manifests):
        labels = template["metadata"]["labels"]
        assert name.startswith("Job/") == (role == "migrate"), name
        assert (labels["app.kubernetes.io/name"], labels["app.kubernetes.io/component"]) == (service.name, role), name


def test_every_setting_exists(manifests: list[Json]) -> None:
    """Every HOMEROOM variable a container has of its own is a setting of its role; shared ones are of some role's."""
    everywhere = {
        field for service in SERVICES for settings in service.roles.values() for field in settings.model_fields
    }
    for name, service, role, template in ours(manifests):
        container = template["spec"]["containers"][0]
        own = {found["name"] for found in container["env"]}
        for variable in environment_of(manifests, container):
            known = settings_of(service, role).model_fields if variable in own else everywhere
            assert variable.removeprefix("HOMEROOM_").removesuffix("_FILE").lower() in known, (name, variable)


def test_every_container_is_configured(
    manifests: list[Json], secrets: dict[str, dict[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each role's settings load from exactly the variables and the Secrets it is given."""
    for variable in [variable for variable in os.environ if variable.startswith("HOMEROOM_")]:
        monkeypatch.delenv(variable)
    for name, service, role, template in ours(manifests):
        folder = tmp_path / name
        folder.mkdir(parents=True)
        for path, (secret, key) in mounted(template).items():
            (folder / path).write_text(secrets[secret][key] if secret in secrets else "given by an operator")
        with monkeypatch.context() as patch:
            for variable, value in environment_of(manifests, template["spec"]["containers"][0]).items():
                assert variable.endswith("_FILE") == (value.startswith(SECRETS) and variable != "HOMEROOM_KAFKA_CA"), (
                    name
                )
                patch.setenv(variable, value.replace(SECRETS, f"{folder}/"))
            settings = settings_of(service, role).load()
        assert (settings.port if role == "api" else settings.health_port) == (None if role == "migrate" else 8000), name
        assert settings.jwks_url == "http://sso:8000/oauth2/jwks", name
        if role in {"worker", "inbox"}:
            assert (settings.kafka_tls, settings.kafka_replication) == (True, 3), name
            assert settings.kafka_username == service.name, name
            assert mounted(template)["kafka-password"] == (f"kafka-{service.name}", "password"), name
            assert settings.kafka_ca == folder / "kafka-ca.crt", name
            assert settings.kafka_ca.exists(), name
        if service.name == "sync-scheduler" and role != "migrate":
            assert settings.model_dump()["license_required"] is True, name


def test_nothing_is_named_that_is_not_there(manifests: list[Json], secrets: dict[str, dict[str, str]]) -> None:
    """Every ConfigMap, Secret, claim and account a Pod names is applied, made by the script, or by an operator."""
    there = {name_of(found) for found in manifests}
    by_operators = {"homeroom-cluster-ca-cert": "ca.crt", "homeroom-postgres-ca": "ca.crt"}
    for name, template in pods(manifests):
        pod = template["spec"]
        assert f"ServiceAccount/{pod['serviceAccountName']}" in there, name
        for secret, key in mounted(template).values():
            made = secrets.get(secret, {}).keys() | {
                by_operators.get(secret, "password" if secret[:6] == "kafka-" else "")
            }
            assert key in made, (name, secret)
        for volume in pod["volumes"]:
            if "persistentVolumeClaim" in volume:
                assert f"PersistentVolumeClaim/{volume['persistentVolumeClaim']['claimName']}" in there, name
            if "configMap" in volume:
                assert f"ConfigMap/{volume['configMap']['name']}" in there, name
        for container in (*pod.get("initContainers", ()), *pod["containers"]):
            mounts = {mount["name"] for mount in container["volumeMounts"]}
            assert mounts <= {volume["name"] for volume in pod["volumes"]}, name


def test_secrets_fit_together(secrets: dict[str, dict[str, str]]) -> None:
    """The made keys open what they seal, the roles have the passwords of the addresses, and each is told once only."""
    scheduler, worker = secrets["sync-scheduler"], secrets["provider-gateway-worker"]
    sealed = seal(scheduler["gateway-public-key"], "integration", "secret")
    assert SealingKeys(worker["gateway-private-keys"]).open("integration", sealed) == "secret"
    told = scheduler["sftp-host-key-fingerprint"]
    assert f"ssh-ed25519 {told}" in fingerprints(secrets["provider-gateway-inbox"]["sftp-host-key"])
    for service in ("sync-scheduler", "roster-store", "sso"):
        role = secrets[f"postgres-{service}"]
        assert secrets[service]["database-url"].startswith(f"postgresql://{role['username']}:{role['password']}@"), (
            service
        )
    assert len({secrets[f"postgres-{name}"]["password"] for name in ("sync-scheduler", "roster-store", "sso")}) == 3


def test_no_secret_stands_in_the_tree(manifests: list[Json], platform: list[Json]) -> None:
    """No Secret is applied from the tree, only those who open credentials have the keys to them, and so on for all."""
    assert only([*manifests, *platform], "Secret") == []
    readers: dict[tuple[str, str], set[str]] = {}
    for _, service, role, template in ours(manifests):
        for each in mounted(template).values():
            readers.setdefault(each, set()).add(f"{service.name} {role}")
    assert readers["provider-gateway-worker", "gateway-private-keys"] == {"provider-gateway worker"}
    assert readers["provider-gateway-inbox", "sftp-host-key"] == {"provider-gateway inbox"}
    for (secret, key), who in readers.items():
        if key == "database-url":
            assert {name.split()[0] for name in who} == {secret}


def test_pods_are_confined(manifests: list[Json]) -> None:
    """Every Pod keeps Pod Security's restricted profile, can write nothing but its volumes, and has no token."""
    [namespace] = only(manifests, "Namespace")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    for name, template in pods(manifests):
        pod = template["spec"]
        assert pod["automountServiceAccountToken"] is False, name
        assert pod["securityContext"]["runAsNonRoot"], name
        assert pod["securityContext"]["runAsUser"] > 0, name
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod), name
        for container in (*pod.get("initContainers", ()), *pod["containers"]):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, name
            assert container["resources"]["requests"].keys() >= {"cpu", "memory"}, name
            assert "memory" in container["resources"]["limits"], name
            assert re.fullmatch(r"[a-z./-]+:\d+\.\d+\S*", container["image"]), name
        assert all(
            volume.keys() & {"emptyDir", "projected", "configMap", "persistentVolumeClaim"} for volume in pod["volumes"]
        )
    assert all(
        "sizeLimit" in volume["emptyDir"]
        for _, pod in pods(manifests)
        for volume in pod["spec"]["volumes"]
        if "emptyDir" in volume
    )


def test_pods_are_asked_how_they_are(manifests: list[Json]) -> None:
    """Whatever stays up is watched while it starts, while it runs, and before it gets requests, on its own port."""
    for name, service, role, template in ours(manifests):
        if role not in SERVING:
            continue
        container = template["spec"]["containers"][0]
        probes = {kind: container[f"{kind}Probe"]["httpGet"] for kind in ("startup", "liveness", "readiness")}
        assert probes == {
            kind: {"path": "/readyz" if kind == "readiness" else "/livez", "port": "http"} for kind in probes
        }, name
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        assert ports == {"http": 8000} | (
            {"sftp": 2222} if (service.name, role) == ("provider-gateway", "inbox") else {}
        ), name


def test_pods_end_without_loss(manifests: list[Json]) -> None:
    """Every Pod has the time its process takes to finish; those with requests hear of the end after their callers."""
    for name, service, role, template in ours(manifests):
        if role not in SERVING:
            continue
        pod = template["spec"]
        pause = pod["containers"][0].get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        grace = float(environment_of(manifests, pod["containers"][0]).get("HOMEROOM_GRACE_SECONDS", 0))
        assert pod["terminationGracePeriodSeconds"] >= pause + grace + DRAIN_SECONDS + STOP_SECONDS, name
        assert (pause > 0) == (role == "api"), name
        assert (grace > 0) == ((service.name, role) == ("provider-gateway", "worker")), name


def test_roll_outs_and_drains_leave_some_up(manifests: list[Json]) -> None:
    """Everything but the inbox has two Pods or more, on different nodes where there are some, and a budget."""
    deployments = {found["metadata"]["name"]: found for found in only(manifests, "Deployment")}
    scaled = {
        found["spec"]["scaleTargetRef"]["name"]: found["spec"].get("minReplicas", found["spec"].get("minReplicaCount"))
        for found in only(manifests, "HorizontalPodAutoscaler", "ScaledObject")
    }
    assert scaled.keys() <= deployments.keys()
    budgets = [found["spec"]["selector"]["matchLabels"] for found in only(manifests, "PodDisruptionBudget")]
    for name, deployment in deployments.items():
        spec, labels = deployment["spec"], deployment["spec"]["template"]["metadata"]["labels"]
        assert spec["selector"]["matchLabels"].items() <= labels.items(), name
        assert ("replicas" in spec) != (name in scaled), f"{name}: two would say how many there are"
        least = scaled.get(name) or spec["replicas"]
        covered = [budget for budget in budgets if budget.items() <= labels.items()]
        if name == "provider-gateway-inbox":
            assert (least, spec["strategy"]["type"], covered) == (1, "Recreate", []), name
            continue
        assert least >= 2, name
        assert len(covered) == 1, name
        keys = {spread["topologyKey"] for spread in spec["template"]["spec"]["topologySpreadConstraints"]}
        assert keys == {"kubernetes.io/hostname", "topology.kubernetes.io/zone"}, name
        if labels["app.kubernetes.io/component"] in {"api", "origin"}:
            assert spec["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}, name
    selectors = [found["spec"]["selector"]["matchLabels"] for found in deployments.values()]
    for labels in selectors:  # nobody counts another one's Pods as its own
        assert sum(other.items() <= labels.items() for other in selectors) == 1


def test_services_lead_to_pods(manifests: list[Json]) -> None:
    """Every Service selects the Pods of exactly one Deployment and names a port they have."""
    for service in only(manifests, "Service"):
        chosen = [
            found["spec"]["template"]
            for found in only(manifests, "Deployment")
            if service["spec"]["selector"].items() <= found["spec"]["template"]["metadata"]["labels"].items()
        ]
        assert len(chosen) == 1, name_of(service)
        ports = {port["name"] for port in chosen[0]["spec"]["containers"][0]["ports"]}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports, name_of(service)
    outside = {name_of(found) for found in only(manifests, "Service") if found["spec"].get("type")}
    assert outside == {"Service/provider-gateway-inbox"}


def test_uploads_are_shared_by_those_who_need_them(manifests: list[Json]) -> None:
    """All of the gateway's Pods, and nobody else, have the folder of uploads where their settings say it is."""
    for name, service, _, template in ours(manifests):
        container = template["spec"]["containers"][0]
        places = {mount["mountPath"] for mount in container["volumeMounts"] if mount["name"] == "uploads"}
        told = environment_of(manifests, container).get("HOMEROOM_UPLOADS_URL")
        assert places == ({told} if service.name == "provider-gateway" else set()), name


# ── schemas first ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_services_wait_for_their_schema(manifests: list[Json]) -> None:
    """Whoever has a schema waits for it with the image it runs, and Jobs can be applied again after they finished."""
    for name, service, role, template in ours(manifests):
        pod = template["spec"]
        waits = pod.get("initContainers", [])
        assert len(waits) == (service.name != "provider-gateway" and role in SERVING), name
        for wait in waits:
            assert wait["image"] == pod["containers"][0]["image"], name
            assert wait["command"] == ["python", "/etc/homeroom/wait_for_schema.py"], name
            [told] = [found for found in wait["env"] if found["name"] == wait["args"][0][2:-1]]
            assert told["valueFrom"]["fieldRef"]["fieldPath"] == "metadata.labels['app.kubernetes.io/name']", name
            assert importlib.import_module(f"{service.package}.app").SCHEMA, name
    for job in only(manifests, "Job"):
        assert job["spec"]["ttlSecondsAfterFinished"] <= 3600, name_of(job)
        assert job["spec"]["backoffLimit"] >= 5, name_of(job)
        notes = job["metadata"]["annotations"]
        assert notes["argocd.argoproj.io/hook-delete-policy"] == "BeforeHookCreation", name_of(job)
        assert notes["kustomize.toolkit.fluxcd.io/force"] == "enabled", name_of(job)


async def test_the_wait_ends_with_the_migration(database_url: str) -> None:
    """The script waits for a schema that is missing or behind, and for nothing else."""
    script = runpy.run_path(str(FOLDER / "migrations/wait_for_schema.py"))
    assert not await script["wait"](database_url, "sso", "sso", patience=0)
    await migrate(database_url, schema="sso", package="sso")
    environment = {"HOMEROOM_DATABASE_URL": database_url, "HOMEROOM_ISSUER": "http://127.0.0.1:8000"}
    command = [sys.executable, FOLDER / "migrations/wait_for_schema.py", "sso"]
    answer = await asyncio.to_thread(
        subprocess.run, command, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert (answer.returncode, answer.stdout, answer.stderr) == (0, "", "")
    away = "postgresql://nobody@127.0.0.1:1/nothing"
    assert not await script["wait"](away, "sso", "sso", patience=0)


# ── the page ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_page_says_what_is_there(manifests: list[Json], secrets: Mapping[str, Mapping[str, str]]) -> None:
    """Commands of README.md name folders and files that exist; every Secret and key that is needed is named."""
    page = (FOLDER / "README.md").read_text("utf-8")
    applied = re.findall(r"kubectl apply -k (\S+)", page)
    assert {"deploy/k8s", "deploy/k8s/platform"} <= set(applied)
    assert all((ROOT / folder.rstrip("`")).joinpath("kustomization.yaml").exists() for folder in applied)
    assert all((ROOT / path).exists() for path in re.findall(r"deploy/[\w./-]*\w", page))
    assert all((FOLDER / path).exists() for path in re.findall(r"`((?:base|regions|platform|pods)/[\w./-]*)`", page))
    needed = {secret for _, template in pods(manifests) for secret in mounted(template).values()}
    needed |= {(name, key) for name, keys in secrets.items() for key in keys}
    rows = "\n".join(line for line in page.splitlines() if line.startswith("| `"))
    assert [each for each in needed if f"`{each[0]}`" not in rows or f"`{each[1]}`" not in rows] == []
    selector = re.search(r"--selector (\S+)=(\S+)", page)
    assert selector
    for job in only(manifests, "Job"):
        assert job["metadata"]["labels"][selector[1]] == selector[2], name_of(job)
    assert f"Kubernetes {OLDEST} or newer" in page
    for module in (*SCHEMAS.values(), "strimzi@v0.51.0"):
        assert re.search(rf" {re.escape('.'.join(module.partition('@v')[2].split('.')[:2]))}\b", page), module

"""Reading rendered manifests: which Pods there are, what they run, and what that is configured with."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from homeroom.settings import Settings
from homeroom_local.documents import SERVICES, Service

Json = dict[str, Any]


def only(manifests: list[Json], *kinds: str) -> list[Json]:
    """The manifests of these kinds."""
    return [found for found in manifests if found["kind"] in kinds]


def name_of(manifest: Json) -> str:
    """Kind and name."""
    return f"{manifest['kind']}/{manifest['metadata']['name']}"


def pods(manifests: list[Json]) -> Iterator[tuple[str, Json]]:
    """The name and the Pod template of everything that makes Pods."""
    for found in only(manifests, "Deployment", "Job"):
        yield name_of(found), found["spec"]["template"]


def ours(manifests: list[Json]) -> Iterator[tuple[str, Service, str, Json]]:
    """Name, service, role and Pod template of everything that runs our image."""
    services = {service.package: service for service in SERVICES}
    for name, template in pods(manifests):
        container = template["spec"]["containers"][0]
        if container["name"] == "homeroom":
            package, role = container["args"]
            yield name, services[package], role, template


def settings_of(service: Service, role: str) -> type[Settings]:
    """What a role is configured with; migrations take what the last long-running role takes, the store's no key."""
    if role == "migrate" and service.name == "roster-store":
        return Settings
    return service.roles.get(role) or list(service.roles.values())[-1]


def environment_of(manifests: list[Json], container: Json) -> dict[str, str]:
    """The HOMEROOM variables a container gets, from ConfigMaps first and then its own."""
    maps = {found["metadata"]["name"]: found["data"] for found in only(manifests, "ConfigMap")}
    given: dict[str, str] = {}
    for source in container.get("envFrom", ()):
        given |= maps[source["configMapRef"]["name"]]
    given |= {found["name"]: found.get("value", "") for found in container["env"]}
    return {name: value for name, value in given.items() if name.startswith("HOMEROOM_")}


def mounted(template: Json) -> dict[str, tuple[str, str]]:
    """File → (Secret, key) of a Pod's secrets."""
    return {
        item["path"]: (source["secret"]["name"], item["key"])
        for volume in template["spec"]["volumes"]
        for source in volume.get("projected", {}).get("sources", ())
        for item in source["secret"]["items"]
    }

"""Every route the services have, as the running apps know them: those no document lists as well."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.routing import iter_route_contexts

from authorization.rules import AnyRule, Rule

Route = tuple[str, str]
"""Method and path."""


def list_routes(app: FastAPI) -> list[Route]:
    """All routes of an app. Raises TypeError for what answers requests and is no plain route, such as a mount."""
    found: list[Route] = []
    for route in iter_route_contexts(app.routes):
        methods, path = getattr(route, "methods", None), getattr(route, "path", None)
        if not methods or path is None:
            msg = f"{path}: whatever answers here, nothing says who may call it"
            raise TypeError(msg)
        found += [(method, path) for method in sorted(methods)]
    return found


def compare(apps: Mapping[str, FastAPI], rules: Mapping[str, Iterable[AnyRule]]) -> list[str]:
    """Routes without a rule, rules without a route, and routes with two."""
    problems = []
    for service, app in apps.items():
        there, ruled = list_routes(app), [rule.name for rule in rules.get(service, ())]
        problems += [f"{service}: {method} {path} has no rule" for method, path in sorted(set(there) - set(ruled))]
        problems += [f"{service}: {method} {path} is no route" for method, path in sorted(set(ruled) - set(there))]
        problems += [
            f"{service}: {method} {path} has two rules"
            for method, path in {one for one in ruled if ruled.count(one) > 1}
        ]
    return problems


def list_paged(app: FastAPI, rules: Iterable[AnyRule]) -> list[tuple[Rule, str]]:
    """Rules whose route reads on from a place it gave before, with the parameter that names the place."""
    document: dict[str, Any] = app.openapi()
    found = []
    for rule in rules:
        operation = document["paths"].get(rule.path.replace(":path}", "}"), {}).get(rule.method.lower(), {})
        names = {one["name"] for one in operation.get("parameters", ())}
        if isinstance(rule, Rule) and rule.method == "GET":
            found += [(rule, name) for name in sorted(names & {"cursor", "since"})]
    return found

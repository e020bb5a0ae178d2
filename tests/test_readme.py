"""What the documents say can be done, can be done."""

from __future__ import annotations

import ast
import importlib.util
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jsonschema
import pytest
import typer

from homeroom_local.cli import app
from homeroom_local.documents import SERVICES

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")])
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
MADE = {".homeroom", ".env", ".venv", ".cache"}
"""What is there only after something ran."""

Json = dict[str, Any]

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def _blocks(page: Path, *languages: str) -> Iterator[str]:
    for language, text in BLOCK.findall(page.read_text("utf-8")):
        if language in languages:
            yield text


def _commands(page: Path) -> str:
    """Everything a reader may type: code spans and shell blocks."""
    spans = re.findall(r"(?<!`)`([^`\n]+)`(?!`)", BLOCK.sub("", page.read_text("utf-8")))
    return "\n".join([*spans, *_blocks(page, "bash", "console")])


def _anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", BLOCK.sub("", page.read_text("utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@every_page
def test_links_lead_somewhere(page: Path) -> None:
    """Each link inside the repository leads to a file, and to a heading where it names one."""
    text = BLOCK.sub("", page.read_text("utf-8"))
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        place = (page.parent / path).resolve() if path else page
        assert place.exists(), target
        assert not anchor or anchor in _anchors(place), target


@every_page
def test_paths_are_there(page: Path) -> None:
    """Each path of the repository that is named exists."""
    tops = {path.name for path in ROOT.iterdir() if path.name not in MADE}
    named = re.findall(r"(?<![\w/.-])(?:[\w.-]+/)+[\w.-]*|(?<![\w/.-])[\w-]+\.(?:md|yml|toml|lock)\b", _commands(page))
    for name in named:
        if name.split("/")[0] in tops and not name.startswith("deploy/compose/secrets"):
            assert (ROOT / name).exists(), name


@every_page
def test_make_targets_exist(page: Path) -> None:
    """Each `make` target that is named is one of the Makefile's."""
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    assert set(re.findall(r"(?:^|[\n;&$]) ?make ([a-z-]+)", _commands(page))) <= targets


@every_page
def test_commands_exist(page: Path) -> None:
    """Each command of ours that is named is one the command line has, and each module can be run."""
    group = typer.main.get_command(app)
    known = set(getattr(group, "commands", ()))
    assert set(re.findall(r"(?:^|\n)homeroom ([a-z]+)", _commands(page))) <= known
    for module in re.findall(r"python -m ([a-z_][\w.]*)", _commands(page)):
        assert importlib.util.find_spec(module), module


def _read_by_examples() -> set[str]:
    """Variables that the examples for products read."""
    return {
        name
        for path in (ROOT / "docs/examples").glob("*.py")
        for name in re.findall(r"HOMEROOM_[A-Z_]+", path.read_text("utf-8"))
    }


@every_page
def test_settings_exist(page: Path) -> None:
    """Each HOMEROOM variable that is named is a setting of some service, or of the tests."""
    settings = {name for service in SERVICES for kind in service.roles.values() for name in kind.model_fields}
    known = {f"HOMEROOM_{name.upper()}" for name in settings} | {
        "HOMEROOM_X_FILE",
        "HOMEROOM_REQUIRE_KAFKA",
        *_read_by_examples(),
    }
    assert set(re.findall(r"\bHOMEROOM_[A-Z_]+[A-Z]\b", page.read_text("utf-8"))) <= known


@every_page
def test_examples_can_be_read(page: Path) -> None:
    """Each example in JSON or Python is well-formed."""
    for text in _blocks(page, "json"):
        json.loads(text)
    for text in _blocks(page, "python"):
        ast.parse(text)


# ── calls ─────────────────────────────────────────────────────────────────────────────────────────────────────────


class Call(NamedTuple):
    """A curl call as it stands in a document, its shell variables replaced by `x`."""

    method: str
    path: str
    query: tuple[str, ...]
    body: Json | None


def _calls(page: Path) -> Iterator[Call]:
    for text in _blocks(page, "bash"):
        for found in re.findall(r"curl [^|#\n]*(?:\n(?! *curl)[^|#\n]*)*", _without_variables(text)):
            call = _read_call(shlex.split(found.split(" | ")[0]))
            if call:
                yield call


def _without_variables(text: str) -> str:
    text = text.replace("\\\n", " ")
    text = re.sub(r"'\$\([^()]*\)'", "x", text)
    text = re.sub(r"'\$(?:ORGANIZATION|PRODUCT|PLAN)'|\$\(cat [^()]*\)", "00000000-0000-0000-0000-000000000000", text)
    return re.sub(r"\w+=\$\((curl .*?)\)$", r"\1", text, flags=re.MULTILINE | re.DOTALL)


def _read_call(words: list[str]) -> Call | None:
    """The call that some words of a shell make; None for one that is not to Homeroom."""
    options = {word: words[at + 1] for at, word in enumerate(words[:-1]) if word.startswith("--")}
    url = next((word for word in words if re.match(r"\$ORIGIN/|http://127\.0\.0\.1:8000/", word)), None)
    if url is None:
        return None
    path, _, query = re.sub(r"^(\$ORIGIN|http://[^/]+)", "", url).partition("?")
    body = json.loads(options["--json"]) if "--json" in options else None
    method = options.get("--request") or ("POST" if {"--json", "--data"} & set(options) else "GET")
    names = tuple(part.partition("=")[0] for part in filter(None, query.split("&")))
    return Call(method, re.sub(r"\$\w+", "x", path), names, body)


ALL_CALLS = [pytest.param(call, id=f"{page.name} {call.method} {call.path}") for page in PAGES for call in _calls(page)]


def _documents() -> Iterator[Json]:
    for path in sorted((ROOT / "docs/api").glob("*.json")):
        yield json.loads(path.read_text("utf-8"))


def _find(call: Call) -> tuple[Json, Json] | None:
    """The operation a call is meant for, and the document it stands in."""
    for document in _documents():
        for template, operations in document["paths"].items():
            if re.fullmatch(re.sub(r"\{[^}]+\}", "[^/]+", template), call.path) and call.method.lower() in operations:
                return operations[call.method.lower()], document
    return None


def test_documents_show_calls() -> None:
    """The README shows how to add a provider, start and follow a run, and read what changed."""
    shown = {(call.method, call.path) for call in _calls(ROOT / "README.md")}
    assert shown >= {
        ("POST", "/v1/organizations"),
        ("POST", "/v1/integrations"),
        ("POST", "/v1/integrations/x/runs"),
        ("GET", "/v1/runs/x"),
        ("GET", "/v1/changes"),
    }


@pytest.mark.parametrize("call", ALL_CALLS)
def test_calls_are_what_the_services_take(call: Call) -> None:
    """Each curl call's path, query and body are those of an operation in the OpenAPI documents."""
    found = _find(call)
    assert found, "no service has this call"
    operation, document = found
    assert set(call.query) <= {parameter["name"] for parameter in operation.get("parameters", ())}
    if call.body is not None:
        schema = operation["requestBody"]["content"]["application/json"]["schema"]
        jsonschema.Draft202012Validator({**schema, "components": document["components"]}).validate(call.body)


def test_paths_in_prose_are_served() -> None:
    """Each call that is named in a sentence is one of a service."""
    for page in PAGES:
        text = BLOCK.sub("", page.read_text("utf-8"))
        for method, path in re.findall(r"`(GET|POST|PATCH|DELETE) (/[\w/{}.-]+)", text):
            assert _find(Call(method, re.sub(r"\{\w+\}", "x", path), (), None)), f"{page.name}: {method} {path}"

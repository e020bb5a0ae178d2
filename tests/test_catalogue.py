"""The error catalogue: every code can be reached, every code is given somewhere, and no other word is given as one."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from homeroom.codes import ACTORS, CATALOGUE, Code

ROOT = Path(__file__).parents[1]
HOME = Path("libs/common/src/homeroom/codes.py")
SOURCES = ("libs/common/src", "services/*/src")
TESTS = ("tests", "libs/*/tests", "libs/common/src/homeroom/testing", "services/*/tests")


@cache
def read_trees(*folders: str) -> list[tuple[Path, ast.Module]]:
    """The syntax trees of all Python files below some folders, but for the catalogue itself."""
    found = {path for folder in folders for base in ROOT.glob(folder) for path in base.rglob("*.py")}
    return [
        (path.relative_to(ROOT), ast.parse(path.read_text("utf-8")))
        for path in sorted(found)
        if path.relative_to(ROOT) not in (HOME, Path(__file__).relative_to(ROOT))
        and (folders == TESTS or "testing" not in path.parts)
    ]


def list_named(tree: ast.AST) -> Iterator[str]:
    """The codes a piece of code names: `Code.X`, or "X" as a word of its own."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "Code":
            yield node.attr
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


@cache
def find_tested() -> dict[str, str]:
    """Code → a test, or what a test is made with, that names it."""
    return {
        name: str(path) for path, tree in read_trees(*TESTS) for name in list_named(tree) if name in Code.__members__
    }


@cache
def find_given() -> dict[str, str]:
    """Code → a file of the services that gives it."""
    return {
        name: str(path) for path, tree in read_trees(*SOURCES) for name in list_named(tree) if name in Code.__members__
    }


@pytest.mark.parametrize("code", Code)
def test_every_code_is_given_and_reached(code: Code) -> None:
    """Some service gives the code, and some test names it as what came."""
    assert code in find_given(), "no service ever gives it: delete it"
    assert code in find_tested(), "no test reaches it"


def test_every_entry_says_who_can_act() -> None:
    """Each entry has a title, a cause, somebody who can act, and a next step, in sentences without an end missing."""
    for code, entry in CATALOGUE.items():
        assert entry.who in ACTORS, code
        assert entry.cause.endswith((".", "?")), code
        assert entry.next_step.endswith((".", "?", "`.", ")")), code
        assert not entry.title.endswith("."), code


def test_no_other_word_is_given_as_a_code() -> None:
    """Wherever something is marked with a code, it is one of the catalogue, never a text of its own."""
    strays = []
    for path, tree in read_trees(*SOURCES):
        for node in ast.walk(tree):
            for keyword in node.keywords if isinstance(node, ast.Call) else ():
                value = keyword.value
                if keyword.arg == "code" and isinstance(value, ast.Constant) and isinstance(value.value, str):
                    strays.append(f"{path}:{value.lineno}: {value.value}")
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Problem":
                first = node.args[0] if node.args else None
                if isinstance(first, ast.Constant):
                    strays.append(f"{path}:{node.lineno}: {first.value}")
    assert strays == []

"""What docs/conventions.md says is enforced here."""

from __future__ import annotations

import ast
import io
import re
import subprocess
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

from homeroom.codes import CATALOGUE, Code

ROOT = Path(__file__).parents[1]
CODES = Path("libs/common/src/homeroom/codes.py")
LOCKS = ("requirements.lock", "deploy/requirements.lock", "deploy/build.lock")

UNFINISHED = re.compile(r"\b(?:TO" r"DO|FIX" r"ME|XX" r"X|HA" r"CK|TB" r"D)\b")
STUB = re.compile(r"raise NotImplementedError")
"""Written in halves, so that this file does not find itself."""
SAYS_SO = {Path("docs/conventions.md")}
"""What may name what is forbidden."""
MACHINE_PATH = re.compile(r"(?<![\w.$})-])/(?:home|root|work|Users|mnt)/\w")
REGISTRY = re.compile(
    r"py[p]i[.]org|python[h]osted|npm[j]s|repo1?[.]maven|proxy[.]golang|--(?:extra-)?index[-]url|--find[-]links|_auth[T]oken"
)
MARKED = re.compile(r"#\s*(?:noqa(?P<rules>:\s*[A-Z]+\d+(?:,\s*[A-Z]+\d+)*)?|type:\s*ignore(?P<errors>\[[\w, -]+\])?)")


def list_files(*endings: str) -> list[Path]:
    """The repository's files as Git knows them, new ones included, relative to its root."""
    told = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    files = sorted(Path(name) for name in filter(None, told.split("\0")))
    return [path for path in files if (ROOT / path).is_file() and (not endings or path.name.endswith(endings))]


def read(path: Path) -> str:
    """A file's text; empty for what is no text."""
    try:
        return (ROOT / path).read_text("utf-8")
    except UnicodeDecodeError:
        return ""


def find_lines(pattern: re.Pattern[str], files: list[Path]) -> list[str]:
    """Where a pattern occurs, as path:line."""
    return [
        f"{path}:{number}: {line.strip()[:100]}"
        for path in files
        for number, line in enumerate(read(path).splitlines(), 1)
        if pattern.search(line)
    ]


def is_test(path: Path) -> bool:
    """Whether a file holds tests: those of a package, or a suite that several run."""
    return "tests" in path.parts or "testing" in path.parts


def walk(path: Path) -> Iterator[ast.AST]:
    """Every node of a Python file."""
    return ast.walk(ast.parse(read(path), str(path)))


def test_files_are_nouns_of_the_domain() -> None:
    """No file or folder has a name that could hold anything."""
    empty = re.compile(r"(?:^|_)(?:utils?|helpers?|managers?|misc)$|^base(?:_|$)")
    assert [str(path) for path in list_files(".py") if any(map(empty.search, path.with_suffix("").parts))] == []


def test_every_code_has_its_words() -> None:
    """Every code is in the catalogue once, with a title, a cause and a next step."""
    assert set(CATALOGUE) == set(Code)
    for code, entry in CATALOGUE.items():
        assert re.fullmatch(r"[A-Z]+(?:_[A-Z0-9]+)*", code), code
        assert all((entry.title, entry.cause, entry.next_step)), code
        assert not entry.title.endswith("."), code


def test_codes_stand_once() -> None:
    """No code is spelled out outside the catalogue, so that none can be misspelled."""
    spelled = [
        f"{path}:{node.lineno}: {node.value}"
        for path in list_files(".py")
        if path != CODES and not is_test(path)
        for node in walk(path)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in set(Code)
    ]
    assert spelled == []


def test_what_looks_like_a_code_is_one() -> None:
    """A text in code or tests that begins like our codes is one of them."""
    areas = "|".join(sorted({code.split("_")[0] for code in Code if "_" in code}))
    like_a_code = re.compile(rf"(?:{areas})(?:_[A-Z0-9]+)+")
    unknown = [
        f"{path}:{node.lineno}: {node.value}"
        for path in list_files(".py")
        for node in walk(path)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and like_a_code.fullmatch(node.value)
        and node.value not in set(Code)
    ]
    assert unknown == []


def test_every_test_says_what_it_promises() -> None:
    """Every test has a docstring of one sentence."""
    silent = [
        f"{path}:{node.lineno}: {node.name}"
        for path in list_files(".py")
        if is_test(path)
        for node in walk(path)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
        if not re.fullmatch(r"[^\n].*\.", (ast.get_docstring(node) or "").replace("\n", " ")) or _has_more(node)
    ]
    assert silent == []


def _has_more(test: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return "\n\n" in (ast.get_docstring(test) or "")


def test_nothing_unfinished_lands() -> None:
    """No file holds a word for work that was left for later, and no code but that of tests a stub."""
    files = [path for path in list_files() if path not in SAYS_SO]
    assert find_lines(UNFINISHED, files) == []
    assert find_lines(STUB, [path for path in files if not is_test(path)]) == []


def test_every_ignore_has_its_reason() -> None:
    """An ignored rule is named, and the reason stands beside it or in a comment on the line above."""
    assert [found for path in list_files(".py") for found in _find_bare_ignores(path)] == []


def _find_bare_ignores(path: Path) -> Iterator[str]:
    lines = read(path).splitlines()
    for token in tokenize.generate_tokens(io.StringIO(read(path)).readline):
        if token.type != tokenize.COMMENT or not (marks := list(MARKED.finditer(token.string))):
            continue
        number = token.start[0]
        named = all(mark["rules"] or mark["errors"] for mark in marks)
        beside = re.search(r"[A-Za-z]{2,}", MARKED.sub("", token.string))
        above = number > 1 and lines[number - 2].lstrip().startswith("#")
        if not named or not (beside or above):
            yield f"{path}:{number}: {token.string}"


def test_every_skip_has_its_reason() -> None:
    """A test that is skipped or expected to fail says why."""
    marks = {"skip", "skipif", "xfail"}
    bare = []
    for path in filter(is_test, list_files(".py")):
        called = {id(node.func): node for node in walk(path) if isinstance(node, ast.Call)}
        for node in walk(path):
            if not (isinstance(node, ast.Attribute) and node.attr in marks and "pytest" in ast.unparse(node.value)):
                continue
            call = next((call for call in called.values() if ast.dump(call.func) == ast.dump(node)), None)
            is_mark = "mark" in ast.unparse(node.value)
            if call is None or not (any(kw.arg == "reason" for kw in call.keywords) or (call.args and not is_mark)):
                bare.append(f"{path}:{node.lineno}: {ast.unparse(node)}")
    assert bare == []


def test_no_machine_leaves_its_traces() -> None:
    """No file names a path of one machine or the address of a package registry."""
    files = list_files()
    assert find_lines(MACHINE_PATH, [path for path in files if path != Path("tests/test_conventions.py")]) == []
    assert find_lines(REGISTRY, [path for path in files if path != Path("tests/test_conventions.py")]) == []


@pytest.mark.parametrize("name", LOCKS)
def test_what_is_installed_is_pinned(name: str) -> None:
    """Every package in a lock has one version and at least one hash, and the lock holds no address."""
    pinned = 0
    for requirement in read(Path(name)).replace("\\\n", " ").splitlines():
        if not requirement.strip() or requirement.lstrip().startswith("#"):
            continue
        assert re.match(r"[a-z0-9][a-z0-9._-]*(?:\[[\w,-]+\])?==\S+ ", requirement), requirement[:80]
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", requirement), requirement[:80]
        assert "://" not in requirement, requirement[:80]
        pinned += 1
    assert pinned


@pytest.mark.parametrize("name", LOCKS[1:])
def test_the_image_gets_what_was_tested(name: str) -> None:
    """What goes into the image has the versions and hashes the tests ran with."""
    assert _read_lock(name) <= _read_lock(LOCKS[0])


def _read_lock(name: str) -> set[str]:
    """Name, version and hashes of each requirement; on which platforms it is wanted may differ."""
    lines = re.sub(r"\s+#.*", "", read(Path(name)).replace("\\\n", " ")).splitlines()
    return {" ".join([line.split()[0], *re.findall(r"--hash=\S+", line)]) for line in lines if "==" in line}

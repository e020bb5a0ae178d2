"""When a set of files is complete (reliability facts §3.2 C1)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provider_gateway.inbox.sets import Ready, Rules, Seen, Waiting, decide, is_draft, read_manifest

NOW = datetime(2026, 3, 2, 3, 0, tzinfo=UTC)
RULES = Rules()
NAMED = frozenset({"orgs.csv", "users.csv"})


def seen(name: str, *, ago: float = 60, rested: float = 60, **more: Any) -> Seen:
    """A file that came so many seconds ago and was watched at rest for so long."""
    return Seen(name, 100, NOW - timedelta(seconds=ago), timedelta(seconds=rested), **more)


def test_a_whole_set_at_rest() -> None:
    """A manifest and every file it names, all at rest, are a set, and files beside them go along."""
    files = [seen("manifest.csv"), seen("orgs.csv"), seen("Users.CSV"), seen("notes.txt")]
    assert decide(files, NAMED, NOW, RULES) == Ready(("Users.CSV", "manifest.csv", "notes.txt", "orgs.csv"))


def test_nothing() -> None:
    """About an empty folder there is nothing to say."""
    assert decide([], None, NOW, RULES) is None


def test_a_manifest_alone_may_be_a_set() -> None:
    """A manifest that names no file says that nothing changed, and is a set."""
    assert decide([seen("manifest.csv")], frozenset(), NOW, RULES) == Ready(("manifest.csv",))


def test_what_is_missing_is_named() -> None:
    """While a file that the manifest names is missing the set waits for it, and without a manifest for that."""
    verdict = decide([seen("manifest.csv"), seen("orgs.csv")], NAMED, NOW, RULES)
    assert verdict == Waiting("missing", ("users.csv",), 2, NOW - timedelta(seconds=60), overdue=False)
    verdict = decide([seen("users.csv"), seen("orgs.csv")], None, NOW, RULES)
    assert isinstance(verdict, Waiting)
    assert (verdict.why, verdict.files) == ("missing", ("manifest.csv",))


@pytest.mark.parametrize("name", ["manifest.csv", "orgs.csv", "users.csv", "extra.csv"])
def test_any_file_that_moves_holds_up_the_set(name: str) -> None:
    """A file that changed within the time of rest, or is open, holds the whole set up, whichever it is."""
    names = ("manifest.csv", "orgs.csv", "users.csv", "extra.csv")
    for change in ({"rested": 29.0}, {"writing": True}):
        files = [seen(one, **(change if one == name else {})) for one in names]
        verdict = decide(files, NAMED, NOW, RULES)
        assert isinstance(verdict, Waiting)
        assert (verdict.why, verdict.files) == ("arriving", (name,))


def test_a_name_for_unfinished_files_is_no_file() -> None:
    """A file under a temporary name does not count as the file, and is waited for while it grows."""
    files = [seen("manifest.csv"), seen("orgs.csv"), seen("users.csv.filepart")]
    verdict = decide(files, NAMED, NOW, RULES)
    assert isinstance(verdict, Waiting)
    assert verdict.files == ("users.csv",)
    growing = [*files, seen("users.csv"), seen(".orgs.csv", rested=1)]
    verdict = decide(growing, NAMED, NOW, RULES)
    assert isinstance(verdict, Waiting)
    assert verdict.files == (".orgs.csv",)
    left_over = [*files, seen("users.csv")]
    assert decide(left_over, NAMED, NOW, RULES) == Ready(("manifest.csv", "orgs.csv", "users.csv"))


@pytest.mark.parametrize("name", ["a.part", "A.FILEPART", "x.tmp", ".users.csv"])
def test_drafts(name: str) -> None:
    """The names uploaders give to what is unfinished are known."""
    assert is_draft(name)
    assert not is_draft("users.csv")


def test_two_nights_are_no_set() -> None:
    """Files that came more than six hours apart are not of one night: the older ones are waited for again."""
    yesterday = 24 * 3600.0
    files = [seen("manifest.csv"), seen("orgs.csv"), seen("users.csv", ago=yesterday)]
    verdict = decide(files, NAMED, NOW, RULES)
    assert isinstance(verdict, Waiting)
    assert (verdict.why, verdict.files) == ("nights", ("users.csv",))
    files = [seen("manifest.csv", ago=yesterday), seen("orgs.csv"), seen("users.csv")]
    verdict = decide(files, NAMED, NOW, RULES)
    assert isinstance(verdict, Waiting)
    assert verdict.files == ("manifest.csv",)
    at_the_edge = [seen("manifest.csv", ago=0), seen("orgs.csv", ago=6 * 3600), seen("users.csv")]
    assert isinstance(decide(at_the_edge, NAMED, NOW, RULES), Ready)


def test_an_old_file_that_nobody_named_is_no_other_night() -> None:
    """Only files that belong to the set have to be of one night."""
    files = [seen("manifest.csv"), seen("orgs.csv"), seen("users.csv"), seen("readme.txt", ago=10**6)]
    assert isinstance(decide(files, NAMED, NOW, RULES), Ready)


def test_waiting_for_long_is_told() -> None:
    """A set is overdue once its last file came longer ago than a set may take, and not before."""
    hours = 3600.0
    for ago, overdue in ((12 * hours, False), (12 * hours + 1, True)):
        verdict = decide([seen("manifest.csv", ago=ago), seen("orgs.csv", ago=20 * hours)], NAMED, NOW, RULES)
        assert isinstance(verdict, Waiting)
        assert verdict.overdue == overdue


def test_a_zip_is_a_set() -> None:
    """A zip at rest is a set by itself, whatever lies beside it; of two, the one that came first goes first."""
    files = [seen("b.zip", opens=True), seen("a.ZIP", ago=30, opens=True), seen("orgs.csv")]
    assert decide(files, None, NOW, RULES) == Ready(("b.zip",))
    assert decide(files[1:], None, NOW, RULES) == Ready(("a.ZIP",))


def test_a_zip_that_does_not_open_gets_longer_and_goes_all_the_same() -> None:
    """What looks like half a zip is waited for ten times as long, and then handed on for its run to say what it is."""
    verdict = decide([seen("a.zip", opens=False)], None, NOW, RULES)
    assert isinstance(verdict, Waiting)
    assert verdict.why == "arriving"
    assert decide([seen("a.zip", opens=False, rested=301)], None, NOW, RULES) == Ready(("a.zip",))
    assert isinstance(decide([seen("a.zip", opens=False, rested=301, writing=True)], None, NOW, RULES), Waiting)


def test_a_manifest_that_can_not_be_read_goes_all_the_same() -> None:
    """A set whose manifest makes no sense is handed on at rest, for its run to say so."""
    assert decide([seen("manifest.csv"), seen("orgs.csv")], None, NOW, RULES) == Ready(("manifest.csv", "orgs.csv"))


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"propertyName,value\r\nfile.orgs,bulk\r\nfile.users,delta\r\nfile.roles,absent", {"orgs.csv", "users.csv"}),
        (b'\xef\xbb\xbf"propertyName","value"\n"oneroster.version","1.2"\n"file.Orgs","BULK"', {"orgs.csv"}),
        (b"propertyName,value\noneroster.version,1.1\n", set()),
        (b"file.orgs\nfile.users, bulk ,more\n", {"users.csv"}),
        (b"file.../../etc/passwd,bulk\n", {"passwd.csv"}),
        ("file.orgs,bulk".encode("utf-16"), None),
        (b'file.orgs,"bulk', None),
        (b"hello", None),
        (b"", None),
        (b"file.orgs,bulk\n" + b"#" * 100_000, None),
    ],
    ids=["plain", "quoted, marked, cases", "nothing shipped", "ragged", "paths", "UTF-16", "quotes", "no manifest",
         "empty", "huge"],
)  # fmt: skip
def test_manifests(content: bytes, named: set[str] | None) -> None:
    """Manifests are read as they are found, in any order and case, and what is none is said to be none."""
    assert read_manifest(content) == named


@given(st.binary(max_size=300))
def test_no_manifest_breaks_the_inbox(content: bytes) -> None:
    """Whatever a manifest holds, reading it gives names or nothing."""
    found = read_manifest(content)
    assert found is None or all("/" not in name for name in found)

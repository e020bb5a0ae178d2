"""A thousand bad pictures and two hundred ordinary days: nobody goes wrongly, and few days are held (C14, C15)."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any
from uuid import uuid4

import pytest
from pictures import WANTED, PictureSource, Pipe, as_rows, make_bad_picture, read_truth

from homeroom.db import Database
from homeroom.messages import Applied, Bookmark, Held, Options, UploadRef
from homeroom.migrate import migrate
from homeroom.roster import CANONICAL_VERSION
from provider_gateway.failures import ProviderError
from provider_gateway.providers import PROVIDERS
from provider_gateway.providers.contract import Connection, Opening
from provider_gateway.readers import Readers
from sandbox_district import District
from sandbox_district.oneroster_csv import write_set

SEED = int(os.environ.get("HOMEROOM_TEST_SEED", "20261122"))
STUDENTS = 60
SHARES = range(4)
"""The thousand pictures come in parts, so that processes can share them."""
PICTURES, HALF_WRITTEN, DAYS = 220, 30, 200


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """An empty store."""
    await migrate(database_url, schema="roster", package="roster_store")
    async with Database.open(database_url, schema="roster", size=4) as database:
        yield database


@pytest.mark.parametrize("share", SHARES)
async def test_bad_pictures_remove_nobody(database: Database, share: int) -> None:
    """Whatever is wrong with a picture, all who are there stay; and what would have removed many is told as such."""
    rng = Random(f"{SEED}/{share}")
    district = District(seed=rng.randrange(10_000), students=STUDENTS)
    pipe = Pipe(database)
    truth = read_truth(district)
    assert isinstance(await pipe.sync(PictureSource(as_rows(truth), truth)), Applied)
    before = await pipe.active()
    assert before == {name: set(truth[name]) for name in WANTED}
    outcomes: Counter[str] = Counter()
    for number in range(PICTURES):
        picture = make_bad_picture(rng, truth)
        told = f"seed {SEED}, share {share}, picture {number}: {picture.kind}"
        fact = await pipe.sync(picture.source)

        assert await pipe.active() == before, f"{told} changed who is there: {_sum_up(fact)}"
        silent = (
            isinstance(fact, Applied)
            and not fact.issues
            and not any(report.unconfirmed or report.held for report in fact.collections.values())
        )
        assert not (picture.mass and silent), f"{told} was taken for a good one"
        outcomes[f"{picture.kind.split()[0]} {type(fact).__name__}"] += 1
        if number % 20 == 0:  # life goes on between bad nights
            fact = await pipe.sync(PictureSource(as_rows(truth), truth))
            assert isinstance(fact, Applied), told
            assert fact.apply is None, "nothing had to be repaired"
    _tell(f"seed {SEED}, share {share}: {dict(sorted(outcomes.items()))}")


@pytest.mark.parametrize("share", SHARES)
async def test_half_written_files_remove_nobody(database: Database, tmp_path: Path, share: int) -> None:
    """A set of files that is cut off anywhere, in one file or in its zip, removes nobody."""
    rng = Random(f"{SEED}/files/{share}")
    district = District(seed=rng.randrange(10_000), students=STUDENTS)
    pipe = Pipe(database)
    good = tmp_path / "good"
    write_set(district, good)
    assert isinstance(await _sync_files(pipe, good, tmp_path), Applied)
    before = await pipe.active()
    for number in range(HALF_WRITTEN):
        bad = tmp_path / f"bad-{number}"
        cut = rng.choice(("file", "file", "zip"))
        if cut == "zip":
            write_set(district, bad.with_suffix(".zip"))
            bad = bad.with_suffix(".zip")
            victim = bad
        else:
            write_set(district, bad)
            victim = rng.choice(sorted(path for path in bad.iterdir() if path.name != "manifest.csv"))
        size = victim.stat().st_size
        at = rng.randrange(size)
        if victim.read_bytes()[:at].endswith(b"\n"):
            at -= 1  # cut exactly between two rows it is a shorter file, which nobody can tell from a true one
        os.truncate(victim, at)
        fact = await _sync_files(pipe, bad, tmp_path)

        assert await pipe.active() == before, (
            f"seed {SEED}, share {share}, {number}: {victim.name} cut at {at} of {size}"
        )
        assert not (isinstance(fact, Applied) and fact.apply is not None), "nothing good can have come of it"


async def test_ordinary_days_are_not_held(database: Database) -> None:
    """Of two hundred ordinary days at most two are held, and the roster is the provider's after each of the others."""
    district = District(seed=SEED % 10_000, students=80)
    pipe = Pipe(database)
    held = []
    for day in range(DAYS + 1):
        truth = read_truth(district)
        fact = await pipe.sync(PictureSource(as_rows(truth), truth))
        if isinstance(fact, Held):
            held.append((day, fact.code, fact.detail))
            await pipe.approve(fact)
        assert await pipe.active() == {name: set(truth[name]) for name in WANTED}, f"seed {SEED}, day {day}"
        district.advance_day()
    _tell(f"seed {SEED}: {len(held)} of {DAYS} days held")
    assert len(held) <= DAYS * 0.01, held


def _sum_up(fact: Any) -> str:
    """A fact in a line."""
    reports = getattr(fact, "collections", {}).items()
    counts = {name: (one.served, one.removed, one.unconfirmed, one.held) for name, one in reports}
    return f"{type(fact).__name__}, served, removed, unconfirmed, held: {counts}"


def _tell(text: str) -> None:
    """Print the seed and what came of it; shown with `-s`, and where a test fails."""
    sys.stdout.write(f"{text}\n")


async def _sync_files(pipe: Pipe, files: Path, folder: Path) -> Any:
    """Sync a set of files through the provider's own code."""

    class Received:
        async def fetch(self, integration_id: str, upload_id: str, into: Path) -> Path:  # noqa: ARG002 - the one set
            return files

    workspace = folder / uuid4().hex
    workspace.mkdir()
    now = datetime.now(UTC)
    uploads: Any = Received()
    client: Any = None
    opening = Opening(
        integration_id=pipe.integration_id,
        connection=Connection({}, {}),
        options=Options(sync_parents=True),
        sis=None,
        client=client,
        readers=Readers(0),
        uploads=uploads,
        upload=UploadRef(id=str(uuid4()), number=pipe.runs + 1, received_at=now),
        mode="full",
        bookmark=pipe.bookmark,
        began=now,
        today=now.date(),
        workspace=workspace,
        page_size=1_000,
        pages_in_flight=2,
    )
    try:
        async with PROVIDERS["oneroster-csv"].open(opening) as source:
            fact = await pipe.sync(source)
            if isinstance(fact, Applied):
                pipe.bookmark = Bookmark(at=now, canonical=CANONICAL_VERSION, state=await source.finish({}))
            return fact
    except ProviderError as error:
        return error

"""Builds with one thing broken each: small changes of the real code, made at start-up and undone after the test.

Each is a mistake that somebody makes once: the reliability facts (§4.3, negative controls) tell of most of them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import numpy as np
import pytest
from broken_builds import chain, scenarios
from broken_builds.scenarios import Scenario, World

from homeroom.bus import postgres_consumer
from provider_gateway import comparer, completeness
from roster_store import guard, settlement
from roster_store.relay import Relay
from roster_store.tables import SQL
from sync_scheduler import schedules

Break = Callable[[pytest.MonkeyPatch, World], None]


@dataclass(frozen=True, slots=True)
class Build:
    """A broken build, the scenario that shows it, and the invariant that must be found broken."""

    broken: Break
    scenario: Scenario
    invariant: str


def _rewrite(name: str, old: str, new: str) -> Break:
    """A statement of the store with a part of it exchanged."""

    def apply(patch: pytest.MonkeyPatch, _: World) -> None:
        statement = SQL[name]
        assert old in statement, f"{name} has changed: break it anew"
        patch.setitem(SQL, name, statement.replace(old, new))  # type: ignore[arg-type]  # a dict, shown as a mapping

    return apply


def _replace(name: str, statement: str) -> Break:
    """Another statement in the place of one of the store's."""

    def apply(patch: pytest.MonkeyPatch, _: World) -> None:
        patch.setitem(SQL, name, statement)  # type: ignore[arg-type]  # a dict, shown as a mapping

    return apply


def _all(*breaks: Break) -> Break:
    """Several breaks that make one build."""

    def apply(patch: pytest.MonkeyPatch, world: World) -> None:
        for one in breaks:
            one(patch, world)

    return apply


def _commit_before_handling(patch: pytest.MonkeyPatch, _: World) -> None:
    fetch = postgres_consumer.Source.fetch

    async def fetch_and_commit(self: Any) -> Any:
        messages = await fetch(self)
        if messages:
            await self.commit(messages[-1].offset + 1)
        return messages

    patch.setattr(postgres_consumer.Source, "fetch", fetch_and_commit)


def _exchange(patch: pytest.MonkeyPatch, function: Any, other: Any) -> None:
    """Exchange a function of a service wherever it was imported to."""
    package = function.__module__.partition(".")[0]
    for name, module in list(sys.modules.items()):
        if name.startswith(package) and getattr(module, function.__name__, None) is function:
            patch.setattr(module, function.__name__, other)


def _take_every_picture_for_whole(patch: pytest.MonkeyPatch, _: World) -> None:
    def judge(picture: completeness.Picture, _: int) -> str:
        return "absent are gone" if picture.unseen else "nobody is missing"

    _exchange(patch, completeness.judge, judge)


def _believe_counts(patch: pytest.MonkeyPatch, _: World) -> None:
    careful = completeness.judge

    def judge(picture: completeness.Picture, ask_at_most: int) -> str:
        verdict = careful(picture, ask_at_most)
        return "absent are gone" if verdict == "gone unless found" else verdict

    _exchange(patch, careful, judge)


def _forget_what_came_unreadable(patch: pytest.MonkeyPatch, _: World) -> None:
    def mark(_: Any, keys: bytes) -> Any:
        nothing = np.zeros(len(keys) // comparer.KEY_BYTES, np.bool_)
        return nothing, nothing

    patch.setattr(comparer.Comparer, "mark", mark)


def _find_everything_changed(patch: pytest.MonkeyPatch, _: World) -> None:
    compare = comparer.Comparer.compare

    def compare_nothing(self: Any, keys: bytes, fingerprints: Any) -> Any:
        kinds = compare(self, keys, fingerprints)
        return np.where(kinds == comparer.UNCHANGED, np.int8(comparer.CHANGED), kinds)

    patch.setattr(comparer.Comparer, "compare", compare_nothing)


def _judge_nothing(patch: pytest.MonkeyPatch, _: World) -> None:
    _exchange(patch, guard.judge, lambda *_, **__: guard.Verdict())


def _invent_counts(patch: pytest.MonkeyPatch, _: World) -> None:
    merge = settlement.merge_counts

    def invent(*args: Any, **more: Any) -> Any:
        reports = merge(*args, **more)
        return {name: msgspec.structs.replace(one, unchanged=0) for name, one in reports.items()}

    _exchange(patch, merge, invent)


def _move_the_cursor_first(patch: pytest.MonkeyPatch, _: World) -> None:
    relay_page = Relay.relay_page

    async def move_and_relay(self: Any) -> bool:
        bus, kept = self._bus, []

        class Holding:
            async def publish(self, *messages: Any) -> None:
                kept.extend(messages)

        self._bus = Holding()
        try:
            more = await relay_page(self)
        finally:
            self._bus = bus
        await bus.publish(*kept)
        return more

    patch.setattr(Relay, "relay_page", move_and_relay)


def _believe_old_attempts(patch: pytest.MonkeyPatch, _: World) -> None:
    hear = chain.hear

    def believe(run: Any, fact: Any, **more: Any) -> Any:
        return hear(run, msgspec.structs.replace(fact, attempt=run.attempt), **more)

    patch.setattr(chain, "hear", believe)


def _take_one_offset_for_all_the_year(patch: pytest.MonkeyPatch, _: World) -> None:
    def find_moment(local: datetime, zone: ZoneInfo) -> datetime:
        offset = datetime(local.year, 7, 1, tzinfo=zone).utcoffset()
        assert offset is not None
        return local.replace(tzinfo=UTC) - offset

    patch.setattr(schedules, "find_moment", find_moment)


def _let_two_runs_be_active(_: pytest.MonkeyPatch, world: World) -> None:
    world.broken_schema.append("DROP INDEX scheduler.run_active")


_BASIS_OF_NEWEST = """(
    SELECT basis FROM staged_fetch WHERE integration_no = integration.no AND state = 'staging' ORDER BY no DESC LIMIT 1
)"""
_DELETE = """
DELETE FROM {table} AS held USING {gone} AS gone
WHERE gone.collection = $4 AND held.integration_no = $1 AND held.sourced_id = gone.sourced_id AND held.active
  AND $2::bigint > 0 AND $3::int >= 0
"""
_STAGE_ALL = """
WITH kept AS (INSERT INTO staged_chunk (fetch_no, seq) SELECT $1, unnest($2::int[]) ON CONFLICT DO NOTHING)
SELECT seq FROM unnest($2::int[]) AS seq
"""

BUILDS: dict[str, Build] = {
    "commits before it handles": Build(_commit_before_handling, scenarios.a_worker_that_dies_at_work, "I11"),
    "lets old workers write": Build(
        _all(
            _rewrite("lock_integration", "newest_run, newest_attempt", "0::bigint AS newest_run, 0 AS newest_attempt"),
            _rewrite("list_overtaken", "id <> $2", "id <> $2 AND false"),
        ),
        scenarios.a_zombie,
        "I4",
    ),
    "does not count chunks": Build(
        _rewrite("count_chunks", "count(*)", "greatest(count(*), $2)"), scenarios.a_lost_chunk, "I1"
    ),
    "does not ask what a picture was compared with": Build(
        _rewrite("lock_integration", "last_apply", f"{_BASIS_OF_NEWEST} AS last_apply"),
        scenarios.a_late_picture,
        "I1",
    ),
    "removes on a partial picture": Build(_take_every_picture_for_whole, scenarios.a_shifted_page, "I5"),
    "believes counts alone": Build(_believe_counts, scenarios.a_page_that_shifted_unseen, "I5"),
    "takes unreadable for absent": Build(_forget_what_came_unreadable, scenarios.an_unreadable_record, "I5"),
    "has no guard": Build(_judge_nothing, scenarios.an_empty_collection, "I5"),
    "begins versions anew": Build(
        _rewrite("upsert", "version = held.version + 1", "version = 1"), scenarios.an_ordinary_week, "I4"
    ),
    "writes what is unchanged": Build(
        _all(
            _find_everything_changed,
            _rewrite("plan_upserts", "AND held.fingerprint <> staged.fingerprint", ""),
            _rewrite("upsert", "held.fingerprint <> excluded.fingerprint", "true"),
        ),
        scenarios.an_ordinary_week,
        "I6",
    ),
    "writes over what was made by hand": Build(
        _rewrite("upsert", "held.origin = 'synced' AND", ""), scenarios.a_record_made_by_hand, "I1"
    ),
    "deletes what is removed": Build(
        _replace("remove", _DELETE),
        scenarios.an_ordinary_week,
        "I3",
    ),
    "stages chunks twice": Build(
        _replace("stage_chunks", _STAGE_ALL),
        scenarios.a_batch_twice,
        "I11",
    ),
    "takes enrollments that lead nowhere": Build(
        _rewrite("count_dangling", "count(DISTINCT sourced_id)", "0"), scenarios.an_enrollment_without_its_user, "I8"
    ),
    "invents counts": Build(_invent_counts, scenarios.an_ordinary_week, "I9"),
    "moves the relay's cursor first": Build(_move_the_cursor_first, scenarios.a_relay_that_dies, "I2"),
    "reads past applies in flight": Build(
        _rewrite("list_applies", "AND apply.xid < pg_snapshot_xmin(pg_current_snapshot())", ""),
        scenarios.a_late_commit,
        "I2",
    ),
    "believes old attempts": Build(_believe_old_attempts, scenarios.a_word_of_an_old_attempt, "I5"),
    "knows no daylight-saving time": Build(_take_one_offset_for_all_the_year, scenarios.a_year_of_nights, "I10"),
    "lets two runs be active": Build(_let_two_runs_be_active, scenarios.a_double_click, "I10"),
}  # fmt: skip

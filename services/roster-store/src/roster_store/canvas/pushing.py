"""The worker's part: sets of rosters to Canvas, and what became of them (D6).

A push is a row that is worked on in short turns: one makes and uploads the set, each further one asks how the import
stands. Between turns nobody holds it, so that a Canvas which takes hours costs nothing, and a worker that dies in a
turn is followed by another one. After that the set is uploaded again, which Canvas takes as no change.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import IO, Any, Final
from uuid import UUID, uuid4

import asyncpg

from homeroom.codes import Code
from homeroom.db import TRANSIENT, Connection, Database
from homeroom.secrets import SealingKeys, SecretUnreadable
from homeroom.telemetry import get_logger
from roster_store.archives import write_archive
from roster_store.canvas.client import DONE, FAILED, Canvas, CanvasProblem, Import
from roster_store.canvas.guard import find_objection
from roster_store.canvas.messages import as_rows, read_messages
from roster_store.canvas.options import CanvasOptions
from roster_store.canvas.sets import CanvasSet, list_entries, narrow_sight
from roster_store.canvas.targets import find_owners_sight, find_place
from roster_store.csv_export.exports import settle_cursor
from roster_store.sights import Rosters
from roster_store.tables import SQL

log = get_logger(__name__)

EVERY_SECONDS: Final = 2.0
AT_ONCE: Final = 2
"""Turns in a process."""
LEASE_SECONDS: Final = 60.0
RENEW_SECONDS: Final = 20.0
SETTLE_SECONDS: Final = 60.0
"""From a roster's change to its push, so that what changes together is pushed together."""
DAILY_SECONDS: Final = 24 * 3600.0
IMPORT_SECONDS: Final = 12 * 3600.0
"""How long Canvas may take for an import."""
MOST_TRIES: Final = 8
MOST_BYTES: Final = 400_000_000
"""Of a zipped set; a million people with their enrollments come to some 100 MB."""
MOST_KEPT: Final = 100
"""Pushes of a target that are remembered."""
_IN_MEMORY: Final = 4_000_000
_FORGET_ROUNDS: Final = 500


@dataclass(slots=True)
class Turn:
    """A push that this worker holds, with its target."""

    push: asyncpg.Record
    target: asyncpg.Record
    holder: UUID


@dataclass(frozen=True, slots=True)
class End:
    """How a push ended."""

    state: str
    code: Code | None = None
    detail: str | None = None
    held: bool = False
    """Whether its target is pushed no more by itself."""
    last: Import | None = None


@dataclass(slots=True)
class Pusher:
    """Pushes until it is told to stop."""

    database: Database
    rosters: Rosters
    canvas: Canvas
    keys: SealingKeys
    settle_seconds: float = SETTLE_SECONDS
    poll_seconds: float = 5.0
    """Until an import is asked about for the first time; then twice as long each time, up to a minute."""
    retry_seconds: float = 30.0
    most_bytes: int = MOST_BYTES
    _turns: set[asyncio.Task[None]] = field(default_factory=set)

    async def run(self, stop: asyncio.Event) -> None:
        """Look for what is due, and go on after whatever may pass by itself."""
        rounds = 0
        try:
            while not stop.is_set():
                try:
                    await self.take_up()
                    if rounds % _FORGET_ROUNDS == 0:
                        await self.database.fetch(SQL["forget_canvas_pushes"], MOST_KEPT)
                except TRANSIENT as error:
                    log.warning("canvas.interrupted", error=type(error).__name__)
                rounds += 1
                try:
                    await asyncio.wait_for(stop.wait(), EVERY_SECONDS)
                except TimeoutError:
                    continue
        finally:
            for turn in self._turns:
                turn.cancel()
            await asyncio.gather(*self._turns, return_exceptions=True)

    async def take_up(self) -> int:
        """Begin what is due, as far as there is room; how many turns that was."""
        await self.database.fetch(SQL["enqueue_canvas_pushes"], self.settle_seconds, DAILY_SECONDS)
        begun = 0
        while len(self._turns) < AT_ONCE and (work := await self._claim()) is not None:
            task = asyncio.create_task(work)
            self._turns.add(task)
            task.add_done_callback(self._turns.discard)
            begun += 1
        return begun

    async def settle(self) -> None:
        """Wait for the turns that were begun."""
        await asyncio.gather(*self._turns)

    async def _claim(self) -> Any:
        tested = await self.database.fetchrow(SQL["claim_canvas_test"])
        if tested is not None:
            return self._test(tested)
        holder = uuid4()
        try:
            push = await self.database.fetchrow(SQL["claim_canvas_push"], holder, LEASE_SECONDS)
        except asyncpg.UniqueViolationError:
            return None  # another worker was quicker with another push of the same target
        if push is None:
            return None
        target = await self.database.fetchrow("SELECT * FROM canvas_target WHERE id = $1", push["target_id"])
        return None if target is None else self._turn(Turn(push, target, holder))

    async def _test(self, target: asyncpg.Record) -> None:
        code, detail = None, "Canvas knows the account, and the token may look at it."
        try:
            await self.canvas.check_account(await find_place(self.keys, target))
        except CanvasProblem as problem:
            code, detail = problem.code, problem.detail
        except SecretUnreadable:
            code, detail = Code.SECRET_UNREADABLE, "The access token can't be read any more; enter it again."
        await self.database.fetch(SQL["answer_canvas_test"], target["id"], target["test_asked"], code, detail)

    # ── a turn ────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _turn(self, turn: Turn) -> None:
        """One turn, held by renewing its lease; whatever goes wrong is noted or passes to the next worker."""
        working = asyncio.current_task()
        renewing = asyncio.create_task(self._renew(turn, working))
        try:
            await self._work(turn)
        except CanvasProblem as problem:
            await self._postpone_or_end(turn, problem)
        except SecretUnreadable:
            detail = "The access token can't be read any more; enter it again."
            await self._end(turn, End("failed", Code.SECRET_UNREADABLE, detail, held=True))
        except TRANSIENT as error:
            log.warning("canvas.turn_interrupted", error=type(error).__name__)
            await self._postpone_or_end(
                turn, CanvasProblem(Code.UNAVAILABLE, "A part of Homeroom did not answer.", again=True)
            )
        except Exception:  # a fault of ours, which must not be tried for ever
            log.exception("canvas.turn_failed")
            fault = CanvasProblem(Code.INTERNAL, "The push could not be made.", again=True)
            await self._postpone_or_end(turn, fault)
        except asyncio.CancelledError:
            await asyncio.shield(self.database.fetch(SQL["release_canvas_push"], turn.push["id"], turn.holder))
            raise
        finally:
            renewing.cancel()
            await asyncio.gather(renewing, return_exceptions=True)

    async def _renew(self, turn: Turn, working: asyncio.Task[Any] | None) -> None:
        """Keep the lease; a turn that has lost it is broken off."""
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            try:
                answer = await self.database.fetch(
                    SQL["renew_canvas_push"], turn.push["id"], turn.holder, LEASE_SECONDS
                )
            except TRANSIENT:
                continue
            if not answer and working is not None:
                working.cancel()
                return

    async def _work(self, turn: Turn) -> None:
        if turn.push["import_id"] is not None:
            place = await find_place(self.keys, turn.target)
            await self._judge(turn, await self.canvas.look_up(place, turn.push["import_id"]))
            return
        sight = await find_owners_sight(self.database, turn.target)
        if sight is None:
            await self.database.fetch(SQL["note_canvas_attempt"], turn.target["id"], 0)
            await self._end(turn, End("failed", Code.LICENSE_INACTIVE, "The roster may not be read any more."))
            return
        place = await find_place(self.keys, turn.target)
        options = CanvasOptions.model_validate(turn.target["options"])
        wanted = CanvasSet(narrow_sight(sight, options), options, turn.target["basis"])
        with tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY) as file:
            step, size = await self._make(wanted, file)
            counts = {name: [count.rows, count.active] for name, count in wanted.counts.items()}
            await self.database.fetch(SQL["note_canvas_set"], turn.push["id"], turn.holder, counts, size, step)
            await self.database.fetch(SQL["note_canvas_attempt"], turn.target["id"], max(step, sight.newest))
            turn.push = await self._reread(turn)
            objection = self._object(turn, counts)
            if objection is not None:
                await self._end(turn, End("held", Code.CANVAS_HELD, objection, held=True))
                return
            found = await self.canvas.upload(place, file, size, self._choose(turn))
        log.info("canvas.uploaded", target=str(turn.target["id"]), bytes=size)
        await self._judge(turn, found)

    async def _reread(self, turn: Turn) -> asyncpg.Record:
        row = await self.database.fetchrow("SELECT * FROM canvas_push WHERE id = $1", turn.push["id"])
        if row is None or row["holder"] != turn.holder:
            raise CanvasProblem(Code.CANVAS_UNREACHABLE, "Another worker has taken over.", again=True)
        return row

    async def _make(self, wanted: CanvasSet, file: IO[bytes]) -> tuple[int, int]:
        """Write the set; the newest step that is in it for certain, and its size in bytes."""
        step = (await settle_cursor(self.database, wanted.sight)).apply_no
        size = 0
        async with self.rosters.look(wanted.sight, isolation="repeatable_read") as connection:
            made_at = await connection.fetchval("SELECT now()")
            async with _pieces(connection, wanted, made_at) as pieces:
                async for piece in pieces:
                    size += len(piece)
                    if size > self.most_bytes:
                        raise CanvasProblem(Code.CANVAS_TOO_LARGE, f"The set is larger than {self.most_bytes:,} bytes.")
                    await asyncio.to_thread(file.write, piece)
        return step, size

    def _object(self, turn: Turn, counts: dict[str, list[int]]) -> str | None:
        confirmed = None
        if turn.push["confirmed"] == Code.CANVAS_HELD:
            confirmed = turn.target["held_counts"]
        active = {name: each[1] for name, each in counts.items()}
        return find_objection(active, turn.target["counts"], turn.target["change_threshold"], confirmed)

    def _choose(self, turn: Turn) -> dict[str, str]:
        """Canvas' options. Courses and sections that a set lacks stay: what Canvas deletes takes work with it."""
        options = {"skip_deletes": "true"}
        if turn.target["mode"] == "diffing":
            options |= {
                "diffing_data_set_identifier": f"homeroom-{turn.target['id']}-{turn.target['generation']}",
                "change_threshold": str(turn.target["change_threshold"]),
                "diffing_drop_status": "inactive",
                "diffing_user_remove_status": "suspended",
            }
            if turn.push["confirmed"] is not None:
                options["diffing_remaster_data_set"] = "true"
        return options

    # ── what became of it ─────────────────────────────────────────────────────────────────────────────────────────

    async def _judge(self, turn: Turn, found: Import) -> None:
        """Wait on, or end the push, by what Canvas says of the import."""
        if found.workflow_state in DONE:
            await self._end(turn, _judge_done(found))
        elif found.workflow_state in FAILED:
            detail = f"Canvas ended the import as {found.workflow_state}."
            await self._end(turn, End("failed", Code.CANVAS_IMPORT_FAILED, detail, last=found))
        elif await self._is_late(turn):
            detail = f"The import was not finished after {IMPORT_SECONDS / 3600:.0f} hours."
            await self._end(turn, End("failed", Code.CANVAS_IMPORT_FAILED, detail, last=found))
        else:
            first = turn.push["import_id"] is None
            tries = 0 if first else turn.push["tries"] + 1
            pause = min(60.0, self.poll_seconds * 2 ** min(tries, 10))
            await self.database.fetch(
                SQL["await_canvas_import"], turn.push["id"], turn.holder, str(found.id)[:64],
                found.workflow_state[:64], found.percent, tries, pause,
            )  # fmt: skip

    async def _is_late(self, turn: Turn) -> bool:
        if turn.push["uploaded_at"] is None:
            return False
        return bool(
            await self.database.fetchval(
                "SELECT now() > $1 + make_interval(secs => $2)", turn.push["uploaded_at"], IMPORT_SECONDS
            )
        )

    async def _postpone_or_end(self, turn: Turn, problem: CanvasProblem) -> None:
        uploaded = turn.push["import_id"] is not None
        late = await self._is_late(turn) if uploaded else turn.push["tries"] + 1 >= MOST_TRIES
        if problem.again and not late:
            pause = min(3600.0, max(problem.wait or 0.0, self.retry_seconds * 2 ** min(turn.push["tries"], 7)))
            if uploaded:
                pause = min(pause, 300.0)
            await self.database.fetch(
                SQL["postpone_canvas_push"], turn.push["id"], turn.holder, problem.code, problem.detail, pause
            )
            return
        await self._end(turn, End("failed", problem.code, problem.detail, held=not problem.again))

    async def _end(self, turn: Turn, end: End) -> None:
        last = end.last
        said = read_messages(last.processing_warnings or (), last.processing_errors or ()) if last else []
        count = len(last.processing_warnings or ()) + len(last.processing_errors or ()) if last else 0
        taken = turn.push["counts"] if end.state == "succeeded" else None

        async def write(connection: Connection) -> None:
            ended = await connection.fetchval(
                SQL["finish_canvas_push"], turn.push["id"], turn.holder, end.state, end.code,
                end.detail, last and last.workflow_state[:64], last and last.percent, as_rows(said), count,
            )  # fmt: skip
            if ended is None:
                return  # another worker has taken over, or the target is gone
            counts = {name: each[1] for name, each in (turn.push["counts"] or {}).items()}
            held, kept = turn.target["held_code"], turn.target["held_counts"]
            if end.held or end.state == "succeeded":
                held = end.code if end.held else None
                kept = counts if end.held and end.code is Code.CANVAS_HELD else None
            await connection.execute(
                SQL["settle_canvas_target"], ended, held, kept, counts if taken else None,
                turn.push["step"] if taken else None, turn.target["generation"],
            )  # fmt: skip

        await self.database.transact(write)
        log.info("canvas.pushed", target=str(turn.target["id"]), state=end.state, code=end.code)


def _judge_done(found: Import) -> End:
    """What an import came to that Canvas has finished."""
    if found.diffing_threshold_exceeded:
        detail = "The set differs from the one before by more than the threshold, so Canvas has compared nothing."
        return End("succeeded", Code.CANVAS_REMASTER, detail, held=True, last=found)
    if found.processing_errors or found.processing_warnings or found.workflow_state == "imported_with_messages":
        detail = "Canvas has imported the set, but for what its messages are about."
        return End("succeeded", Code.CANVAS_MESSAGES, detail, last=found)
    return End("succeeded", last=found)


@asynccontextmanager
async def _pieces(connection: Connection, wanted: CanvasSet, made_at: Any) -> AsyncIterator[AsyncIterator[bytes]]:
    async with (
        aclosing(list_entries(connection, wanted)) as entries,
        aclosing(write_archive(entries, made_at)) as pieces,
    ):
        yield pieces

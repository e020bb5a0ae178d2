"""Delivers alerts: each to everybody it is for, in order for one target, at the same time for different ones.

A row of `alert_delivery` that is pending and due is the message to send. Whoever takes it puts its next try off for a
while; if that process dies, another one goes on. So an alert may arrive twice, with the same id.
"""

from __future__ import annotations

import asyncio
import random
from datetime import timedelta

import asyncpg

from homeroom.db import Database
from homeroom.telemetry import get_logger
from homeroom.webhooks import NotDelivered, Webhooks
from sync_scheduler import ledger
from sync_scheduler.alert_targets import list_secrets
from sync_scheduler.doorbell import first_of
from sync_scheduler.ledger import AWAY, SQL
from sync_scheduler.mail import Mail

log = get_logger(__name__)

WEBHOOKS_AT_ONCE = 64
"""So many attempts of one process are under way at most: a dead endpoint takes one of these places now and then."""
MAILS_AT_ONCE = 16
"""Of their own, so that a slow mail server holds up no webhook."""
TAKEN = timedelta(seconds=90)
"""Longer than any attempt takes."""
PAUSES = tuple(timedelta(seconds=seconds) for seconds in (5, 60, 300, 1800, 2 * 3600, 5 * 3600, 8 * 3600, 8 * 3600))
"""After the first failed try, the second, and so on."""
LAST_SECONDS = 12.0
"""For what is under way when the process is to end."""
GIVE_UP = timedelta(days=1)
"""What could not be delivered by then is not tried again."""


def find_pause(tries: int, age: timedelta) -> timedelta | None:
    """How long to wait after a failed try; None to give up.

    Args:
        tries: how many there were.
        age: how long ago the alert was written.
    """
    if tries > len(PAUSES) or age + PAUSES[tries - 1] > GIVE_UP:
        return None
    return PAUSES[tries - 1]


class Deliveries:
    """Delivers what is due, in one process of any number."""

    def __init__(self, database: Database, webhooks: Webhooks, mail: Mail, *, signing_key: str) -> None:
        self._database = database
        self._webhooks = webhooks
        self._mail = mail
        self._signing_key = signing_key
        self._webhooks_under_way: set[asyncio.Task[None]] = set()
        self._mails_under_way: set[asyncio.Task[None]] = set()

    async def run(self, stop: asyncio.Event, *, tick_seconds: float) -> None:
        """Deliver until `stop`; what is under way then is finished, or tried again by others."""
        try:
            while not stop.is_set():
                try:
                    await self.send_due()
                except AWAY as error:
                    log.warning("deliveries.interrupted", error_type=type(error).__name__)
                # A target's next alert may go as soon as the one before it was delivered.
                await first_of(tick_seconds, stop.wait(), self._one_done())
        finally:
            if under_way := self._under_way:
                await asyncio.wait(under_way, timeout=LAST_SECONDS)
            for task in under_way:
                task.cancel()

    async def send_due(self) -> int:
        """Begin to deliver what is due, as far as there is room; returns how many were begun."""
        webhooks = await self._begin(self._webhooks_under_way, WEBHOOKS_AT_ONCE, mails=False)
        return webhooks + await self._begin(self._mails_under_way, MAILS_AT_ONCE, mails=True)

    async def finish(self) -> None:
        """Wait for what is under way."""
        while under_way := self._under_way:
            await asyncio.wait(under_way)

    @property
    def _under_way(self) -> set[asyncio.Task[None]]:
        return self._webhooks_under_way | self._mails_under_way

    async def _begin(self, under_way: set[asyncio.Task[None]], most: int, *, mails: bool) -> int:
        if len(under_way) >= most:
            return 0
        rows = await self._database.fetch(SQL["deliveries_due"], most - len(under_way), TAKEN, mails)
        for row in rows:
            task = asyncio.create_task(self._deliver(row))
            under_way.add(task)
            task.add_done_callback(under_way.discard)
        return len(rows)

    async def _one_done(self) -> None:
        if under_way := self._under_way:
            await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
        else:
            await asyncio.Event().wait()

    async def _deliver(self, row: asyncpg.Record) -> None:
        try:
            try:
                await self._attempt(row)
            except NotDelivered as trouble:
                await self._put_off(row, trouble)
            else:
                await self._database.fetch(SQL["end_delivery"], row["position"], row["tries"], "delivered", None)
        except AWAY as error:  # it is taken again once its time is over
            log.warning("deliveries.interrupted", error_type=type(error).__name__)

    async def _attempt(self, row: asyncpg.Record) -> None:
        """Try once. Raises NotDelivered."""
        async with self._database.connection() as connection:
            now = await ledger.read_time(connection)
            target = await connection.fetchrow(SQL["target_of_delivery"], row["target"]) if row["target"] else None
        if target is not None and target["kind"] == "webhook":
            if not self._signing_key:
                raise NotDelivered("Webhooks can't be signed here (HOMEROOM_ALERT_SIGNING_KEY).")
            secrets = list_secrets(self._signing_key, target, now)
            await self._webhooks.send(target["url"], str(row["alert"]), row["payload"], secrets, now)
            return
        address = target["address"] if target is not None else row["address"]
        mail = row["mail"]
        message_id = f"{row['alert']}.{row['position']}"
        await self._mail.send(address, mail["subject"], mail["text"], message_id=message_id, now=now)

    async def _put_off(self, row: asyncpg.Record, trouble: NotDelivered) -> None:
        async with self._database.connection() as connection:
            age = await ledger.read_time(connection) - row["at"]
            pause = None if trouble.for_good else find_pause(row["tries"], age)
            log.warning(
                "alert.not_delivered",
                alert_id=str(row["alert"]),
                target_id=str(row["target"]),
                tries=row["tries"],
                given_up=pause is None,
            )
            if pause is None:
                await connection.execute(SQL["end_delivery"], row["position"], row["tries"], "given_up", trouble.why)
                return
            late = pause * random.uniform(1, 1.1)
            await connection.execute(SQL["put_delivery_off"], row["position"], row["tries"], trouble.why, late)

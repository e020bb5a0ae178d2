"""The consumer of `roster-commands`: what people decided about held plans, and runs to be undone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from homeroom.bus import Bus, Message
from homeroom.db import Database
from homeroom.faultpoints import faultpoint
from homeroom.messages import Decide, Fact, StoreCommand, read_command, to_facts
from homeroom.telemetry import inject_headers, span_from
from roster_store.completion import Delays
from roster_store.decisions import carry_out
from roster_store.restore import restore_before

GROUP = "roster-store-commands"


class CommandConsumer:
    """The handler of `roster-commands`; everything it does may be done twice."""

    def __init__(self, database: Database, bus: Bus, delays: Delays | None = None) -> None:
        self._database = database
        self._bus = bus
        self._delays = delays or Delays()

    async def handle(self, messages: Sequence[Message]) -> None:
        """Carry commands out one after the other, and publish what came of each."""
        for message in messages:
            command = read_command(message)
            with span_from(message, f"handle {type(command).__name__}"):
                facts = await self._carry_out(command)
                faultpoint("store.decided")
                if facts:
                    await self._bus.publish(*(replace(to_facts(fact), headers=inject_headers()) for fact in facts))

    async def _carry_out(self, command: StoreCommand) -> Sequence[Fact]:
        if isinstance(command, Decide):
            return await carry_out(self._database, command)
        return await restore_before(self._database, command, delays=self._delays)

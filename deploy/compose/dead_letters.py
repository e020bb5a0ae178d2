"""Shows the dead letters of a topic, or sends them again. Runs inside any of our containers (docs/runbooks).

`docker compose exec -T roster-store-worker python - list|replay TOPIC <deploy/compose/dead_letters.py`
"""

# ruff: noqa: INP001 - a script that is run, not part of a package
from __future__ import annotations

import asyncio
import sys

from homeroom.bus import deadletter
from homeroom.bus.opening import open_bus
from homeroom.settings import Settings


async def show(topic: str, *, replay: bool) -> None:
    """Write one line a letter, without its content; then send all of them again if that was asked for."""
    async with open_bus(Settings.load()) as bus:
        for letter in await deadletter.read(bus, topic):
            place = f"partition {letter.partition} offset {letter.offset}"
            when = f"{letter.message.sent_at:%Y-%m-%d %H:%M:%SZ}"
            sys.stdout.write(f"{when}  {letter.group:20}  {letter.reason:20}  {place}  sha256 {letter.sha256[:12]}\n")
        if replay:
            sys.stdout.write(f"{await deadletter.replay(bus, topic)} messages were sent again; the letters stay\n")


if __name__ == "__main__":
    _action, _topic = sys.argv[1:]
    asyncio.run(show(_topic, replay=_action == "replay"))

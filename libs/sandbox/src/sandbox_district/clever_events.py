"""What Clever has of the district from one sync to the next, and the events between.

Nothing is read before somebody asks, so that the other faces of the district are not slowed by this one.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, time
from typing import Any, Final, NamedTuple

from sandbox_district.clever_records import KINDS, Identities, Snapshot, read_books, show_version
from sandbox_district.district import District
from sandbox_district.records import Record, format_instant

RETENTION_DAYS: Final = 30
_STAMPS: Final = ("created", "last_modified")
_STAMPED: Final = frozenset({"schools", "users", "sections"})
_ABSENT: Final = object()


class Event(NamedTuple):
    """Something that came, changed or went, with the object as v3.1 has it; the day is the district's."""

    day: int
    kind: str
    content: Record

    @property
    def id(self) -> str:
        """Its id; those of later events are greater."""
        return str(self.content["id"])

    def concerns(self, school: str) -> bool:
        """Whether it is about a school, or about something of that school."""
        found = self.content["data"]["object"]
        roles = found.get("roles", {}).values()
        schools = {found.get("school"), *(each for role in roles for each in role.get("schools", ()))}
        return school in schools or (self.kind == "schools" and found["id"] == school)


class Ledger:
    """The objects Clever has, brought up to date by each sync, and the events of the last 30 days.

    A sync happens whenever the district changes, and while the district is paused not at all.
    """

    def __init__(self, district: District) -> None:
        self.paused = False
        self.last_sync = district.read_clock()
        self._district = district
        self._identities = Identities(district)
        self._content: Snapshot | None = None
        self._objects: Snapshot = {kind: {} for kind in KINDS}
        self._events: list[Event] = []
        self._numbered = 0
        self._state: tuple[int, ...] = ()

    def note_change(self) -> None:
        """Take up what has just changed in the district, if anybody ever asked for what was before."""
        if self._content is not None:
            self.sync()

    def objects(self) -> Snapshot:
        """What Clever has now, by kind and id, in the order of ids."""
        self.sync()
        return self._objects

    def events(self) -> list[Event]:
        """The events that are still kept, oldest first. The first ever is that the district began to share."""
        self.sync()
        first = self._district.day - RETENTION_DAYS
        self._events = [event for event in self._events if event.day >= first]
        return self._events

    def purge_events(self) -> None:
        """Forget every event there was, as if 30 days had passed."""
        self.sync()
        self._events = []

    def sync(self) -> None:
        """Read the district's books, unless paused or nothing has happened, and write down what is new."""
        district = self._district
        state = (len(district.history), *(len(records) for records in district.collections.values()))
        if self._content is not None and (self.paused or state == self._state):
            return
        self._state = state
        self._identities.read_history()
        before, self._content = self._content, read_books(district, self._identities)
        self.last_sync = district.read_clock()
        if before is None:
            self._open(self._content)
        else:
            self._compare(before, self._content)

    def _open(self, content: Snapshot) -> None:
        """The first sync: everything is as old as its id says, and the district has begun to share."""
        for kind in KINDS:
            self._objects[kind] = {
                key: _stamp(kind, each, _read_birth(key), _read_birth(key)) for key, each in content[kind].items()
            }
        for each in self._objects["districts"].values():
            self._record("districts", "created", each)

    def _compare(self, before: Snapshot, after: Snapshot) -> None:
        now = format_instant(self._district.read_clock())
        for kind in KINDS:
            held = self._objects[kind]
            self._objects[kind] = fresh = {}
            for key, content in after[kind].items():
                if before[kind].get(key) == content:
                    fresh[key] = held[key]
                elif key in held:
                    fresh[key] = _stamp(kind, content, held[key].get("created", now), now)
                    self._record(kind, "updated", fresh[key], held[key])
                else:
                    fresh[key] = _stamp(kind, content, now, now)
                    self._record(kind, "created", fresh[key])
            gone = [held[key] for key in before[kind].keys() - after[kind].keys()]
            for each in sorted(gone, key=lambda each: str(each["id"])):
                self._record(kind, "deleted", each)

    def _record(self, kind: str, what: str, found: Record, before: Record | None = None) -> None:
        self._numbered += 1
        district = self._district
        epoch = int(datetime.combine(district.today, time(5), UTC).timestamp())
        content: Record = {
            "id": f"{epoch:08x}{self._numbered:016x}",
            "type": f"{kind}.{what}",
            "created": format_instant(district.read_clock()),
            "data": {"object": found},
        }
        if before is not None:
            content["previous_attributes"] = dict(_tell_previous(before, found))
        self._events.append(Event(district.day, kind, content))


def show_event(version: str, event: Event) -> Record | None:
    """An event as a version of the API has it; None if nothing changed that this version knows."""
    found = show_version(version, event.content["data"]["object"])
    shown = event.content | {"data": {"object": found}}
    if "previous_attributes" in shown:
        # What the object was like before is put together again, so that fields inside roles are left out as well.
        absent = {name for name, value in shown["previous_attributes"].items() if value is None}
        before = event.content["data"]["object"] | shown["previous_attributes"]
        before = show_version(version, {name: value for name, value in before.items() if name not in absent})
        shown["previous_attributes"] = dict(_tell_previous(before, found))
        if shown["previous_attributes"].keys() <= {"last_modified"}:
            return None
    return shown


def _tell_previous(before: Record, after: Record) -> Iterator[tuple[str, Any]]:
    """The old value of each field that changed; null if there was none."""
    for name in {**before, **after}:
        if before.get(name, _ABSENT) != after.get(name, _ABSENT):
            yield name, before.get(name)


def _stamp(kind: str, content: Record, created: str, modified: str) -> Record:
    return content | dict(zip(_STAMPS, (created, modified), strict=True)) if kind in _STAMPED else content


def _read_birth(key: str) -> str:
    return format_instant(datetime.fromtimestamp(int(key[:8], 16), UTC))

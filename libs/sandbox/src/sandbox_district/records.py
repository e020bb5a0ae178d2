"""The books of the district: OneRoster 1.1 records as the JSON objects a provider would send."""

from collections import Counter
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final

Clock = Callable[[], datetime]
Record = dict[str, Any]

COLLECTIONS: Final = ("orgs", "academicSessions", "courses", "classes", "users", "enrollments", "demographics")
HREF_BASE: Final = "https://sis.lakeverity.example/ims/oneroster/v1p1"
_COLLECTION_OF_TYPE: Final = {
    "org": "orgs",
    "academicSession": "academicSessions",
    "course": "courses",
    "class": "classes",
    "user": "users",
}


def refer(kind: str, sourced_id: str) -> Record:
    """A GUIDRef. As with many providers its href names another host and is of no use to anybody."""
    return {
        "href": f"{HREF_BASE}/{_COLLECTION_OF_TYPE[kind]}/{sourced_id}",
        "sourcedId": sourced_id,
        "type": kind,
    }


def compose(sourced_id: str, metadata: Record, **fields: Any) -> Record:
    """A new active record. Fields that are None are left out, as most providers do."""
    head = {"sourcedId": sourced_id, "status": "active", "dateLastModified": "", "metadata": metadata}
    return head | {name: value for name, value in fields.items() if value is not None}


def is_active(record: Record) -> bool:
    """Whether the record is there, rather than served as the tombstone of one that was."""
    return bool(record["status"] == "active")


def format_instant(moment: datetime) -> str:
    """OneRoster's date-time: UTC, milliseconds, a Z at the end."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


class Books:
    """Every record of the district by collection and sourcedId, and the calendar it lives by."""

    def __init__(self, first_day: date, clock: Clock | None) -> None:
        self.first_day = first_day
        self.day = 0
        self.collections: dict[str, dict[str, Record]] = {name: {} for name in COLLECTIONS}
        self.stamps_before: dict[str, dict[str, str]] = {name: {} for name in COLLECTIONS}
        """The dateLastModified that records had before they were last changed."""
        self.departed: dict[str, dict[str, Record]] = {name: {} for name in COLLECTIONS}
        """The last content of records that vanished without a tombstone, marked and dated as deleted."""
        self.left_orgs: dict[str, set[str]] = {}
        """The orgs that people had a role at and have none any more, by user."""
        self._clock = clock
        self._numbers: Counter[str] = Counter()

    @property
    def today(self) -> date:
        """The date in the district."""
        return self.first_day + timedelta(days=self.day)

    def read_clock(self) -> datetime:
        """The moment changes are stamped with: the clock's, or five in the morning of the district's day."""
        return self._clock() if self._clock else datetime.combine(self.today, time(5), UTC)

    def active(self, collection: str) -> dict[str, Record]:
        """The records of a collection that are really there, without tombstones."""
        return {sourced_id: record for sourced_id, record in self.collections[collection].items() if is_active(record)}

    def truth(self) -> dict[str, set[str]]:
        """The sourcedIds that are really there, by collection."""
        return {collection: set(self.active(collection)) for collection in COLLECTIONS}

    def put(self, collection: str, record: Record) -> Record:
        """Write a record, new or over the old one."""
        self.collections[collection][record["sourcedId"]] = record
        return record

    def amend(self, collection: str, sourced_id: str, **fields: Any) -> Record:
        """Write some fields of a record anew."""
        return self.put(collection, self.collections[collection][sourced_id] | fields)

    def count_up(self, kind: str) -> int:
        """The next number of its kind, from 1."""
        self._numbers[kind] += 1
        return self._numbers[kind]

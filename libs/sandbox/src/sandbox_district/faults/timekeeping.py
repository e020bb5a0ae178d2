"""How a provider keeps time: its stamps, tombstones and clock, and how long tokens and revisions hold."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from random import Random

from typing_extensions import override

from sandbox_district.district import District
from sandbox_district.faults.fault import Fault
from sandbox_district.records import Record, format_instant, is_active
from sandbox_district.replies import Reply


class UnstampedChanges(Fault, frozen=True, kw_only=True):
    """A share of the edits leaves dateLastModified as it was before; which ones is chance, and the same every time."""

    share: float = 0.05

    @override
    def show(self, collection: str, record: Record, district: District) -> Record:
        before = district.stamps_before[collection].get(record["sourcedId"])
        edit = f"{collection}/{record['sourcedId']}/{record['dateLastModified']}"
        if before is None or Random(edit).random() >= self.share:
            return record
        return record | {"dateLastModified": before}


class PurgedDeletions(Fault, frozen=True, kw_only=True):
    """What is deleted is gone, without any tombstone."""

    @override
    def show(self, collection: str, record: Record, district: District) -> Record | None:
        return record if is_active(record) else None


class ShiftedClock(Fault, frozen=True, kw_only=True):
    """The provider's clock is ahead, or behind with a minus: its Date header, and every dateLastModified."""

    seconds: float = 3600.0

    @override
    def show(self, collection: str, record: Record, district: District) -> Record:
        stamp = datetime.fromisoformat(record["dateLastModified"]) + timedelta(seconds=self.seconds)
        return record | {"dateLastModified": format_instant(stamp)}

    @override
    def send(self, reply: Reply) -> Reply:
        moment = datetime.now(UTC) + timedelta(seconds=self.seconds)
        return replace(reply, headers=reply.headers | {"date": format_datetime(moment, usegmt=True)})


class TokenExpiry(Fault, frozen=True, kw_only=True):
    """A bearer token is good for a number of requests, whatever its expires_in said."""

    requests: int = 3


class NewRevision(Fault, frozen=True, kw_only=True):
    """ClassLink's x-perm-rev is a new one from this request on, as when somebody changes what is shared.

    By default it strikes the second request it meets: the next page.
    """

    path: str = "/classlink"
    after: int = 1
    times: int | None = 1

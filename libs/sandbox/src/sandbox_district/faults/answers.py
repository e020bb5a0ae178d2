"""Instead of an answer: limits, refusals, errors, and what is no roster at all."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import ClassVar

from typing_extensions import override

from sandbox_district.faults.fault import Fault
from sandbox_district.replies import Reply, describe_status, reply_error, reply_json

_LEVELS_UNNESTED = 2


class RateLimit(Fault, frozen=True, kw_only=True):
    """429, with Retry-After as seconds or as an HTTP date, or with none."""

    retry_after: float | None = 1
    as_date: bool = False

    @override
    def answer(self) -> Reply:
        headers = {}
        if self.retry_after is not None:
            moment = datetime.now(UTC) + timedelta(seconds=self.retry_after)
            headers["retry-after"] = format_datetime(moment, usegmt=True) if self.as_date else f"{self.retry_after:g}"
        return reply_error(429, "server_busy", "Too many requests. Slow down.", headers)


class ServerError(Fault, frozen=True, kw_only=True):
    """500, 502, 503 or whatever else is wished for."""

    status: int = 500

    @override
    def answer(self) -> Reply:
        return reply_error(self.status, "internal_server_error", "Something broke here.")


class HtmlLogin(Fault, frozen=True, kw_only=True):
    """200 with a sign-in page for people."""

    @override
    def answer(self) -> Reply:
        page = b"<!doctype html><title>Sign in</title><form><input name=user></form>"
        return Reply(page, headers={"content-type": "text/html; charset=utf-8"})


class ErrorEnvelope(Fault, frozen=True, kw_only=True):
    """200 with OneRoster's error body."""

    @override
    def answer(self) -> Reply:
        return reply_json(describe_status("failure", "error", "internal_server_error", "Not today."))


class Unauthorized(Fault, frozen=True, kw_only=True):
    """401, whatever the credentials."""

    @override
    def answer(self) -> Reply:
        return reply_error(401, "unauthorisedrequest", "Who are you?")


class Forbidden(Fault, frozen=True, kw_only=True):
    """403, as for a collection that is not shared."""

    @override
    def answer(self) -> Reply:
        return reply_error(403, "forbidden", "This is not shared with you.")


class NotFoundSingles(Fault, frozen=True, kw_only=True):
    """404 for every record that is asked for by its sourcedId, though the list has it."""

    lists: ClassVar[bool] = False

    @override
    def answer(self) -> Reply:
        return reply_error(404, "unknownobject", "There is no such object.")


class RefusedCollection(Fault, frozen=True, kw_only=True):
    """403 for a top-level collection and its records, while the schools' own lists of it are served.

    Args:
        schools: the sourcedIds of schools whose own list is refused, too.
    """

    path: str = "/classes"
    schools: tuple[str, ...] = ()

    @override
    def covers(self, path: str, *, single: bool) -> bool:
        name = self.path.strip("/")
        refused = {f"/schools/{school}/{name}" for school in self.schools}
        return path == f"/{name}" or path.startswith(f"/{name}/") or path in refused

    @override
    def answer(self) -> Reply:
        return reply_error(403, "forbidden", "This is not shared with you.")


class NoNested(Fault, frozen=True, kw_only=True):
    """404 for every nested path: only whole collections and their single records are served."""

    singles: ClassVar[bool] = False

    @override
    def covers(self, path: str, *, single: bool) -> bool:
        return path.count("/") > _LEVELS_UNNESTED and super().covers(path, single=single)

    @override
    def answer(self) -> Reply:
        return reply_error(404, "unknownobject", "There is no such path.")

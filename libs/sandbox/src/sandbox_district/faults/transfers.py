"""How an answer travels: late, drop by drop, or not to its end."""

from dataclasses import replace

from typing_extensions import override

from sandbox_district.faults.fault import Fault
from sandbox_district.replies import Reply


class Slow(Fault, frozen=True, kw_only=True):
    """Silence for some seconds before the answer."""

    seconds: float = 1.0

    @override
    def delay(self) -> float:
        return self.seconds


class Drip(Fault, frozen=True, kw_only=True):
    """A body that comes a few bytes at a time, with a pause before each."""

    size: int = 64
    seconds: float = 0.05

    @override
    def send(self, reply: Reply) -> Reply:
        return replace(reply, pace=(self.size, self.seconds))


class Truncate(Fault, frozen=True, kw_only=True):
    """200 with JSON that ends in the middle, as a well-formed HTTP answer."""

    @override
    def send(self, reply: Reply) -> Reply:
        return replace(reply, body=reply.body[: len(reply.body) // 2])


class HangUp(Fault, frozen=True, kw_only=True):
    """The connection closes in the middle of the body."""

    @override
    def send(self, reply: Reply) -> Reply:
        return replace(reply, dropped=True)

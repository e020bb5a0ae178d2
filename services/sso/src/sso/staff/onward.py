"""Where somebody goes on to after signing in: a place of ours, a request that waits, or an invitation (attack 70)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal
from urllib.parse import urlencode

LONGEST: Final = 3_000
_PLAIN: Final = re.compile(r"[A-Za-z0-9/._~!$'()*+,;=:@%?&-]+")
_PLACE: Final = re.compile(r"/(console|oauth2/authorize|sso/staff)([/?]|$)")
_RESUME: Final = re.compile(r"[A-Za-z0-9_-]{20,100}")


@dataclass(frozen=True, slots=True)
class Onward:
    """What comes after signing in.

    Args:
        kind: `place`: the path in `value`; `request`: the console's request for a code that is kept under it;
            `invitation`: the invitation with this id; `nothing`: a page that says who is signed in.
    """

    kind: Literal["nothing", "place", "request", "invitation"] = "nothing"
    value: str = ""

    @property
    def parameters(self) -> dict[str, str]:
        """As it stands in addresses and forms of ours, where `read_onward` reads it again."""
        names = {"place": "next", "request": "request"}
        return {names[self.kind]: self.value} if self.kind in names else {}

    def address(self, path: str, **more: str) -> str:
        """A path of ours, with this."""
        parameters = self.parameters | more
        return f"{path}?{urlencode(parameters)}" if parameters else path

    @property
    def text(self) -> str:
        """As a flow keeps it."""
        return f"{self.kind}:{self.value}"


def read_onward(place: str | None, request: str | None = None) -> Onward:
    """What somebody's browser says comes next; nothing where that is no place of ours."""
    if request is not None and _RESUME.fullmatch(request):
        return Onward("request", request)
    path = read_next(place)
    return Onward() if path is None else Onward("place", path)


def recall_onward(text: str | None) -> Onward:
    """What a flow kept."""
    kind, _, value = (text or "").partition(":")
    match kind:
        case "place":
            return read_onward(value)
        case "request":
            return read_onward(None, value)
        case "invitation":
            return Onward("invitation", value)
    return Onward()


def read_next(text: str | None) -> str | None:
    """The path to go on to, if it is one of those that people are sent on to; None for anything else.

    It is taken as it stands and refused if a browser could read it otherwise: backslashes, control characters, dots
    and slashes, plain or percent-encoded, that lead elsewhere.
    """
    if text is None or len(text) > LONGEST or not _PLAIN.fullmatch(text) or not _PLACE.match(text):
        return None
    path = text.partition("?")[0]
    if "//" in path or "%" in path or any(part in (".", "..") for part in path.split("/")):
        return None
    return text

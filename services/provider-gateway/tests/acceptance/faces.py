"""Every way the sandbox district can be seen by the gateway: a kind of provider, and how to connect it.

A kind that is registered and has no face here fails the suite.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from lenses import CLASSROOM, CLEVER_3_0, CLEVER_3_1, EXACT, RENAMED, Lens

from homeroom.connections import CONNECTIONS, ConnectionModel
from homeroom.roster import COLLECTIONS
from provider_gateway.providers import PROVIDERS
from sandbox_district.district import District
from sandbox_district.oneroster_csv import write_set

Told = Mapping[str, Any]
"""What the sandbox says of itself at /sandbox."""


@dataclass(frozen=True, slots=True)
class Files:
    """How a district that uploads its roster writes it."""

    version: Literal["1.1", "1.2"]
    ending: Literal["", ".zip"]
    deltas: frozenset[str] = frozenset()
    """The collections of which, once everything was sent, only what changed is."""

    def write(self, district: District, folder: Path, number: int, since_day: int) -> Path:
        """The set of today."""
        kinds: dict[str, Literal["bulk", "delta"]] = dict.fromkeys(self.deltas, "delta") if number > 1 else {}
        target = folder / f"set-{number}{self.ending}"
        return write_set(district, target, version=self.version, kind=kinds, since_day=since_day)


@dataclass(frozen=True, slots=True)
class Face:
    """One way to see the district."""

    name: str
    kind: str
    lens: Lens
    enter: Callable[[Told], Mapping[str, Any]] = field(default=lambda _told: {})
    """What an admin enters to connect, secrets included."""
    people: str = ""
    """Where the face asks for people, as faults name it; empty for files."""
    files: Files | None = None
    sees_metadata: bool = True
    """Whether fields that nobody knows can be sent through it with a person."""

    def connection(self, told: Told) -> ConnectionModel:
        """What was entered, as REST would check it."""
        return CONNECTIONS[self.kind].model_validate(dict(self.enter(told)))


def _oneroster(version: str, auth: str, told: Told) -> dict[str, Any]:
    face = told[version]
    entered = {"endpoint_url": face["base_url"], "auth": auth}
    entered |= {name: face[name] for name in ("client_id", "client_secret")}
    return entered | ({"token_url": face["token_url"]} if auth == "oauth2" else {})


def _clever(version: int, ways: tuple[str, ...], told: Told) -> dict[str, Any]:
    face = told["clever"]
    entered = {name: face[name] for name in ("district_id", "token_url", *ways)}
    return entered | {"base_url": face["base_url"][version]}


def _google(told: Told) -> dict[str, Any]:
    names = ("domain", "admin_email", "service_account_key", "base_url", "token_url")
    return {name: told["google_classroom"][name] for name in names}


_ALL = (
    Face(
        "oneroster 1.1, OAuth 1.0a",
        "oneroster",
        EXACT,
        lambda told: _oneroster("oneroster", "oauth1", told),
        people="/users",
    ),
    Face(
        "oneroster 1.1, OAuth 2",
        "oneroster",
        EXACT,
        lambda told: _oneroster("oneroster", "oauth2", told),
        people="/users",
    ),
    Face(
        "oneroster 1.2",
        "oneroster",
        RENAMED,
        lambda told: _oneroster("oneroster_1p2", "oauth2", told),
        people="/users",
    ),
    Face(
        "classlink, direct",
        "classlink",
        EXACT,
        lambda told: _oneroster("oneroster", "oauth1", told),
        people="/users",
    ),
    Face(
        "classlink, proxy",
        "classlink",
        EXACT,
        lambda told: {"auth": "proxy", **told["classlink"]},
        people="/classlink/users",
    ),
    Face("csv 1.1, folder", "oneroster-csv", EXACT, files=Files("1.1", "")),
    Face("csv 1.1, zip", "oneroster-csv", EXACT, files=Files("1.1", ".zip")),
    Face("csv 1.2, zip", "oneroster-csv", RENAMED, files=Files("1.2", ".zip")),
    Face("csv 1.1, deltas", "oneroster-csv", EXACT, files=Files("1.1", ".zip", frozenset(COLLECTIONS))),
    # In 1.2 what changed of a person's roles says nothing of the others, so people are always sent whole.
    Face("csv 1.2, mixed", "oneroster-csv", RENAMED, files=Files("1.2", "", frozenset(COLLECTIONS) - {"users"})),
    Face(
        "clever 3.0, district token",
        "clever",
        CLEVER_3_0,
        lambda told: _clever(0, ("district_token",), told),
        people="/clever/users",
    ),
    Face(
        "clever 3.1, token looked up",
        "clever",
        CLEVER_3_1,
        lambda told: _clever(1, ("client_id", "client_secret"), told),
        people="/clever/users",
    ),
    Face(
        "google classroom",
        "google-classroom",
        CLASSROOM,
        _google,
        people="/google/courses",
        sees_metadata=False,
    ),
)
FACES = tuple(face for face in _ALL if face.kind in PROVIDERS)
"""The faces of all kinds that are registered."""
REFERENCE = _ALL[0]
"""What all others are compared with."""
ASKED = tuple(face for face in FACES if face.files is None)
"""The faces that are asked over a network."""
SENT = tuple(face for face in FACES if face.files is not None)
"""The faces whose districts send files."""

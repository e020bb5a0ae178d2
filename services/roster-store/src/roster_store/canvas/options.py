"""What may be chosen about a Canvas set."""

from __future__ import annotations

from functools import cache
from typing import Annotated, Literal
from zoneinfo import available_timezones

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

Login = Literal["email", "username", "sourcedId"]
Courses = Literal["class", "shared"]

LOGIN_COLUMNS: dict[Login, str] = {"email": "email", "username": "username", "sourcedId": "sourced_id"}


@cache
def _list_zones() -> frozenset[str]:
    """All there are; asking the machine takes 30 ms, and each target that is shown is checked."""
    return frozenset(available_timezones())


def _check_zone(name: str) -> str:
    if name not in _list_zones():
        msg = "it is no time zone"
        raise ValueError(msg)
    return name


Zone = Annotated[str, Field(max_length=64), AfterValidator(_check_zone)]


class CanvasOptions(BaseModel):
    """How a roster becomes a Canvas set."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True, frozen=True)

    login: Login = Field(default="email", description="what people sign in to Canvas with; who lacks it is left out")
    courses: Courses = Field(
        default="class",
        description="`class`: each class is a Canvas course; `shared`: classes of the same course, school and term are "
        "sections of one",
    )
    guardians: bool = Field(default=True, description="whether guardians become observers, where they are granted")
    time_zone: Zone = Field(default="UTC", description="in which days of terms begin and end, as Europe/Stockholm")

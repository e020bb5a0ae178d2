"""Schedules as admins enter them and as they are stored: one model for each kind (C1)."""

from __future__ import annotations

from datetime import date, time, timedelta
from itertools import pairwise
from typing import Annotated, Any, Literal, Self

import asyncpg
from pydantic import Field, StrictInt, StringConstraints, TypeAdapter, field_validator, model_validator

from homeroom.service import RequestModel
from sync_scheduler.schedules import Blackout, Schedule, SchoolHours, find_day_minutes, find_place

Weekday = Literal["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]
WEEKDAYS: tuple[Weekday, ...] = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
Clock = Annotated[str, StringConstraints(pattern=r"^([01]\d|2[0-3]):[0-5]\d$"), Field(examples=["02:00"])]
"""A local time; when clocks are put forward over it, it is the moment they are."""
Window = Annotated[
    StrictInt,
    Field(ge=0, le=24 * 60, description="minutes a sync may start later; each integration has its own place in them"),
]
LEAST_MINUTES = 15
"""No schedule is due more often."""
DAY_MINUTES = 24 * 60
WINDOW_MINUTES = 60
MAX_BLACKOUTS = 100
FIRST_YEAR, LAST_YEAR = 2000, 2199


class BlackoutBody(RequestModel):
    """Days on which no sync starts, in the integration's time zone; both are included."""

    first: date = Field(alias="from")
    last: date = Field(alias="until")

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        if self.last < self.first:
            raise ValueError("until lies before from")
        if not FIRST_YEAR <= self.first.year <= self.last.year <= LAST_YEAR:
            raise ValueError(f"blackout dates lie between the years {FIRST_YEAR} and {LAST_YEAR}")
        return self


class SchoolHoursBody(RequestModel):
    """When no sync starts, in the integration's time zone; at `until` one may."""

    begin: Clock = Field(alias="from")
    end: Clock = Field(alias="until")
    weekdays: Annotated[tuple[Weekday, ...], Field(min_length=1)] = WEEKDAYS[:5]

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        if self.end <= self.begin:
            raise ValueError("until must be later than from")
        return self

    @field_validator("weekdays")
    @classmethod
    def _refuse_doubles(cls, value: tuple[Weekday, ...]) -> tuple[Weekday, ...]:
        return _refuse_doubles(value, "a weekday")


class ManualSchedule(RequestModel):
    """Syncs start when somebody asks, or when files are uploaded."""

    kind: Literal["manual"] = "manual"


class _Timed(RequestModel):
    window_minutes: Window = WINDOW_MINUTES
    blackout: Annotated[tuple[BlackoutBody, ...], Field(max_length=MAX_BLACKOUTS)] = ()
    not_in_school_hours: SchoolHoursBody | None = None


class DailySchedule(_Timed):
    """Every 24 hours of real time, from the first `at` on, or from when the schedule was set."""

    kind: Literal["every_24_hours"]
    at: Clock | None = None
    window_minutes: Window = Field(default=DAY_MINUTES, description="60 by default with `at`, a day without it")

    @model_validator(mode="after")
    def _choose_window(self) -> Self:
        if "window_minutes" not in self.model_fields_set:
            self.window_minutes = DAY_MINUTES if self.at is None else WINDOW_MINUTES
        return self


class NightlySchedule(_Timed):
    """Once every local day."""

    kind: Literal["nightly"]
    at: Clock = "02:00"


class WeeklySchedule(_Timed):
    """On chosen weekdays, at each of the chosen times."""

    kind: Literal["weekly"]
    weekdays: Annotated[tuple[Weekday, ...], Field(min_length=1)]
    times: Annotated[tuple[Clock, ...], Field(min_length=1)]
    window_minutes: Window = Field(
        default=WINDOW_MINUTES, description="by default 60, or as long as the times are apart if that is shorter"
    )

    @field_validator("weekdays")
    @classmethod
    def _refuse_same_days(cls, value: tuple[Weekday, ...]) -> tuple[Weekday, ...]:
        return _refuse_doubles(value, "a weekday")

    @field_validator("times")
    @classmethod
    def _refuse_same_times(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        _check_distance([_count_minutes(at) for at in value])
        return value

    @model_validator(mode="after")
    def _choose_window(self) -> Self:
        if "window_minutes" not in self.model_fields_set:
            self.window_minutes = min(WINDOW_MINUTES, _find_distance([_count_minutes(at) for at in self.times]))
        return self


class TwiceWeeklySchedule(_Timed):
    """Tuesday and Friday from 18:00 on, by the clocks of the region: US Central for us and nz, Perth for au, UTC."""

    kind: Literal["twice_weekly"]
    window_minutes: Window = DAY_MINUTES


class CronSchedule(_Timed):
    """By a cron expression of five fields, in the integration's time zone."""

    kind: Literal["cron"]
    expression: Annotated[str, StringConstraints(max_length=200), Field(examples=["30 1 * * 1-5"])]
    window_minutes: Window = 0

    @field_validator("expression")
    @classmethod
    def _check_expression(cls, value: str) -> str:
        _check_distance(find_day_minutes(value))
        return " ".join(value.split())


AnySchedule = Annotated[
    ManualSchedule | DailySchedule | NightlySchedule | WeeklySchedule | TwiceWeeklySchedule | CronSchedule,
    Field(discriminator="kind"),
]
_ADAPTER: TypeAdapter[Any] = TypeAdapter(AnySchedule)
KINDS: dict[str, type[RequestModel]] = {
    "manual": ManualSchedule,
    "every_24_hours": DailySchedule,
    "nightly": NightlySchedule,
    "weekly": WeeklySchedule,
    "twice_weekly": TwiceWeeklySchedule,
    "cron": CronSchedule,
}


def check_schedule(entered: object) -> Any:
    """The model of a schedule that was entered; None is manual. Raises ValidationError naming the fields."""
    if entered is None or isinstance(entered, RequestModel):
        return entered or ManualSchedule()
    kind = entered.get("kind") if isinstance(entered, dict) else None
    # By its own model, so that a wrong field is named without its kind before it.
    model = KINDS.get(kind) if isinstance(kind, str) else None
    return model.model_validate(entered) if model else _ADAPTER.validate_python(entered)


def store_schedule(schedule: RequestModel) -> dict[str, Any]:
    """As it stands in an integration's row."""
    return schedule.model_dump(mode="json", by_alias=True)


def show_schedule(stored: dict[str, Any]) -> Any:
    """The model of a schedule that is stored."""
    return _ADAPTER.validate_python(stored)


def read_schedule(row: asyncpg.Record) -> Schedule:
    """The schedule of an integration's row, with what is the integration's own."""
    stored: dict[str, Any] = row["schedule"]
    hours = stored.get("not_in_school_hours")
    return Schedule(
        kind=stored["kind"],
        since=row["schedule_since"],
        place=find_place(row["id"]),
        region=row["region"],
        at=time.fromisoformat(stored["at"]) if stored.get("at") else None,
        weekdays=_read_weekdays(stored.get("weekdays", ())),
        times=tuple(map(time.fromisoformat, stored.get("times", ()))),
        expression=stored.get("expression", ""),
        window=timedelta(minutes=stored.get("window_minutes", 0)),
        blackout=tuple(
            Blackout(date.fromisoformat(one["from"]), date.fromisoformat(one["until"]))
            for one in stored.get("blackout", ())
        ),
        school_hours=SchoolHours(
            time.fromisoformat(hours["from"]), time.fromisoformat(hours["until"]), _read_weekdays(hours["weekdays"])
        )
        if hours
        else None,
    )


def _read_weekdays(names: list[Weekday]) -> frozenset[int]:
    return frozenset(map(WEEKDAYS.index, names))


def _refuse_doubles(value: tuple[Weekday, ...], what: str) -> tuple[Weekday, ...]:
    if len(set(value)) < len(value):
        raise ValueError(f"{what} stands in the list more than once")
    return value


def _count_minutes(at: str) -> int:
    hours, minutes = at.split(":")
    return 60 * int(hours) + int(minutes)


def _find_distance(minutes: list[int]) -> int:
    """The shortest time between two minutes of the day, also from one day to the next."""
    ordered = sorted(minutes)
    return min(late - early for early, late in pairwise([*ordered, ordered[0] + DAY_MINUTES]))


def _check_distance(minutes: list[int]) -> None:
    if _find_distance(minutes) < LEAST_MINUTES:
        raise ValueError(f"syncs can be due every {LEAST_MINUTES} minutes at most")

"""A generated district as a OneRoster 1.1 CSV set, and how fast this machine can read one at best."""

from __future__ import annotations

import argparse
import csv
import io
import json
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

from bench.generate import LargeDistrict, Shelf

HEADERS: Final = {
    "orgs": "sourcedId,status,dateLastModified,name,type,identifier,parentSourcedId",
    "academicSessions": ("sourcedId,status,dateLastModified,title,type,startDate,endDate,parentSourcedId,schoolYear"),
    "courses": (
        "sourcedId,status,dateLastModified,schoolYearSourcedId,title,courseCode,grades,orgSourcedId,subjects,"
        "subjectCodes"
    ),
    "classes": (
        "sourcedId,status,dateLastModified,title,grades,courseSourcedId,classCode,classType,location,"
        "schoolSourcedId,termSourcedIds,subjects,subjectCodes,periods"
    ),
    "users": (
        "sourcedId,status,dateLastModified,enabledUser,orgSourcedIds,role,username,userIds,givenName,familyName,"
        "middleName,identifier,email,sms,phone,agentSourcedIds,grades,password"
    ),
    "enrollments": (
        "sourcedId,status,dateLastModified,classSourcedId,schoolSourcedId,userSourcedId,role,primary,beginDate,endDate"
    ),
}
_NOT_MADE: Final = (
    "categories", "classResources", "courseResources", "demographics", "lineItems", "resources", "results",
)  # fmt: skip
_NAMED_BY_KIND: Final = {
    "parentSourcedId": "parent",
    "schoolYearSourcedId": "schoolYear",
    "orgSourcedId": "org",
    "courseSourcedId": "course",
    "schoolSourcedId": "school",
    "classSourcedId": "class",
    "userSourcedId": "user",
    "termSourcedIds": "terms",
    "orgSourcedIds": "orgs",
    "agentSourcedIds": "agents",
}
_PAGE: Final = 2_000
_BLOCK: Final = 1 << 20


def write_archive(district: LargeDistrict, path: Path) -> None:
    """Write the district as a zip of bulk files in ClassLink's way: every cell in quotes, lines ended by CRLF."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        modes = dict.fromkeys(HEADERS, "bulk") | dict.fromkeys(_NOT_MADE, "absent")
        lines = ["propertyName,value", "manifest.version,1.0", "oneroster.version,1.1"]
        lines += [f"file.{name},{mode}" for name, mode in sorted(modes.items())]
        archive.writestr("manifest.csv", "\r\n".join([*lines, ""]))
        for collection, header in HEADERS.items():
            with archive.open(f"{collection}.csv", "w") as file:
                for text in _render(district.shelves[collection], header.split(",")):
                    file.write(text.encode())


def _render(shelf: Shelf, names: list[str]) -> Iterator[str]:
    yield ",".join(f'"{name}"' for name in [*names, "metadata.vendor.rev"]) + "\r\n"
    cells: list[Callable[[dict[str, Any]], str]] = [_cell_of(name) for name in names]
    for offset in range(0, len(shelf), _PAGE):
        records = msgspec.json.decode(b"[" + bytes(shelf.page(offset, _PAGE)) + b"]")
        page = io.StringIO()
        csv.writer(page, quoting=csv.QUOTE_ALL).writerows(
            [[*(cell(record) for cell in cells), record["metadata"]["vendor.rev"]] for record in records]
        )
        yield page.getvalue()


def _cell_of(name: str) -> Callable[[dict[str, Any]], str]:
    """What stands in a column. Status and date stay blank, as bulk files have them."""
    if name in {"status", "dateLastModified", "password"}:
        return lambda _record: ""
    if name == "userIds":
        return lambda record: ",".join([f"{{{one['type']}:{one['identifier']}}}" for one in record["userIds"]])
    wire = _NAMED_BY_KIND.get(name, name)
    return lambda record: _write(record.get(wire))


def _write(value: Any) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case dict():
            return str(value["sourcedId"])
        case list():
            return ",".join(map(_write, value))
    return str(value)


def measure_reading(path: Path) -> dict[str, float]:
    """Seconds to inflate and decode every row of an archive in this one process, and how many rows that was."""
    began = time.perf_counter()
    rows = 0
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            with archive.open(name) as file, io.TextIOWrapper(file, "utf-8", newline="") as text:
                for _ in csv.reader(text):
                    rows += 1
    return {"seconds": time.perf_counter() - began, "rows": rows}


def write_days(students: int, folder: Path) -> dict[str, dict[str, int]]:
    """Write a district as `first.zip`, and one in a hundred records later as `day.zip`; the day's true counts."""
    district = LargeDistrict(students)
    write_archive(district, folder / "first.zip")
    truth = district.one_percent_day(1)
    write_archive(district, folder / "day.zip")
    return truth


def main() -> None:
    """Write a district's archives, or measure how fast one can be read; prints JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", choices=["write", "read"])
    parser.add_argument("path", type=Path, help="the folder to write to, or the archive to read")
    parser.add_argument("--students", type=int, default=50_000)
    given = parser.parse_args()
    print(json.dumps(write_days(given.students, given.path) if given.work == "write" else measure_reading(given.path)))


if __name__ == "__main__":
    main()

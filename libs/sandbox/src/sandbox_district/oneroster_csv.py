"""The district as OneRoster CSV sets, 1.1 and 1.2: everything (bulk), what changed (delta), or some of both.

Headers and their order are those of the CSV bindings 1.1 and 1.2.1. Passwords are never
written, though OneRoster has columns for them. The same district and the same wishes give the same bytes.
"""

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final, Literal
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

from sandbox_district.csv_layout import FILES, HEADERS, Row, read_cells
from sandbox_district.district import District
from sandbox_district.oneroster_versions import list_roles
from sandbox_district.records import Record, is_active

Version = Literal["1.1", "1.2"]
Kind = Literal["bulk", "delta"]
_ZIP_DATE: Final = (1980, 1, 1, 0, 0, 0)
_CASES: Final[dict[str, Callable[[str], str]]] = {"exact": str, "lower": str.lower, "upper": str.upper}


@dataclass(frozen=True, slots=True, kw_only=True)
class Oddities:
    """How a set differs from what the specification asks for; each of these was seen in the wild."""

    bom: bool = False
    line_ends: Literal["crlf", "lf", "mixed"] = "crlf"
    no_last_line_end: bool = False
    quote_all: bool = False
    header_case: Literal["exact", "lower", "upper"] = "exact"
    file_case: Literal["exact", "lower", "upper"] = "exact"
    manifest: Mapping[str, str] = field(default_factory=dict)
    """What the manifest says, whatever is true: {"demographics": "absent"}."""
    header_only: frozenset[str] = frozenset()
    """Files that have their header and no row."""
    left_out: frozenset[str] = frozenset()
    """Files that are not there, though the manifest names them."""
    metadata_inside: bool = False
    """Whether metadata columns stand in the middle instead of at the end."""
    filled: bool = False
    """Whether bulk rows carry a status and a dateLastModified, as many exporters have it."""
    folder: str = ""
    """A folder inside the zip that everything is in."""


PLAIN: Final = Oddities()


def write_set(
    district: District,
    target: Path,
    *,
    version: Version = "1.1",
    kind: Kind | Mapping[str, Kind] = "bulk",
    since_day: int = 0,
    demographics: bool = True,
    oddities: Oddities = PLAIN,
) -> Path:
    """Write a set and return where it is.

    Args:
        district: the district, as it is now.
        target: a path that ends in .zip, or a folder, which is made.
        version: the version of OneRoster.
        kind: what all files are, or by collection; those that are not named are bulk.
        since_day: for deltas, the day whose state the receiver has. What was changed on that very day by hand, after
            it had begun, is sent again.
        demographics: whether they are part of it.
        oddities: what is not as it should be.
    """
    kinds: dict[str, Kind] = {
        name: kind if isinstance(kind, str) else kind.get(name, "bulk") for name in FILES[version]
    }
    tables = [
        _Table(name, _list_rows(district, name, version, kinds[_collection_of(name)], since_day, oddities))
        for name in FILES[version]
        if HEADERS[version].get(name) and (demographics or name != "demographics")
    ]
    shipped = [table for table in tables if table.name not in oddities.left_out]
    with _open_target(target, oddities.folder) as create:
        _write_manifest(create, version, kinds, {table.name for table in tables}, oddities)
        for table in shipped:
            _write_table(create, table, version, oddities)
    return target


@dataclass(frozen=True, slots=True)
class _Table:
    """A file to be: its rows can be walked more than once, for their metadata decide the columns."""

    name: str
    rows: Callable[[], Iterator[Row]]


Create = Callable[[str], Any]


@contextmanager
def _open_target(target: Path, folder: str) -> Iterator[Create]:
    """Gives what opens a file of the set for writing bytes."""
    if target.suffix != ".zip":
        target.mkdir(parents=True, exist_ok=True)
        yield lambda name: (target / name).open("wb")
        return
    with ZipFile(target, "w", ZIP_DEFLATED) as archive:

        def create(name: str) -> IO[bytes]:
            entry = ZipInfo(f"{folder}/{name}" if folder else name, _ZIP_DATE)
            entry.compress_type = ZIP_DEFLATED
            return archive.open(entry, "w", force_zip64=True)

        yield create


def _write_manifest(
    create: Create, version: Version, kinds: Mapping[str, Kind], present: set[str], oddities: Oddities
) -> None:
    said = {name: kinds[_collection_of(name)] if name in present else "absent" for name in FILES[version]}
    rows = [
        ("manifest.version", "1.0"),
        ("oneroster.version", version),
        *((f"file.{name}", oddities.manifest.get(name, value)) for name, value in said.items()),
        ("source.systemName", "Lake Verity Student Records"),
        ("source.systemCode", "LVSR"),
    ]
    _write_file(create, "manifest", ("propertyName", "value"), rows, oddities)


def _write_table(create: Create, table: _Table, version: Version, oddities: Oddities) -> None:
    header = HEADERS[version][table.name]
    extras = sorted({name for row in table.rows() for name in row.metadata})
    columns = [*header, *extras]
    if oddities.metadata_inside:
        columns[3:] = [*extras, *header[3:]]
    rows = () if table.name in oddities.header_only else table.rows()
    cells = ([row.metadata.get(name) or row.cells.get(name, "") for name in columns] for row in rows)
    _write_file(create, table.name, columns, cells, oddities)


def _write_file(
    create: Create, name: str, header: Sequence[str], rows: Iterable[Sequence[str]], oddities: Oddities
) -> None:
    quoting: Literal[0, 1] = csv.QUOTE_ALL if oddities.quote_all else csv.QUOTE_MINIMAL
    line_ends = {"crlf": ("\r\n",), "lf": ("\n",), "mixed": ("\r\n", "\n")}[oddities.line_ends]
    recase = _CASES[oddities.header_case]
    line = io.StringIO(newline="")
    writer = csv.writer(line, lineterminator="", quoting=quoting)
    with create(_CASES[oddities.file_case](f"{name}.csv")) as file:
        file.write(b"\xef\xbb\xbf" if oddities.bom else b"")
        end = ""
        for number, row in enumerate(_chain([recase(column) for column in header], rows)):
            writer.writerow(row)
            file.write((end + line.getvalue()).encode())
            line.seek(0)
            line.truncate()
            end = line_ends[number % len(line_ends)]
        file.write(b"" if oddities.no_last_line_end else end.encode())


def _chain(first: Sequence[str], others: Iterable[Sequence[str]]) -> Iterator[Sequence[str]]:
    yield first
    yield from others


def _collection_of(name: str) -> str:
    """The collection whose changes decide what a file holds: roles are a part of users."""
    return "users" if name in {"roles", "userProfiles"} else name


def _list_rows(
    district: District, name: str, version: Version, kind: Kind, since_day: int, oddities: Oddities
) -> Callable[[], Iterator[Row]]:
    """The rows of a file, each time they are asked for."""
    collection = _collection_of(name)

    def rows() -> Iterator[Row]:
        stamped = kind == "delta" or oddities.filled
        records = (
            _list_changed(district, collection, since_day) if kind == "delta" else _list_active(district, collection)
        )
        for record in records:
            parts = _list_role_records(district, record, delta=kind == "delta") if name == "roles" else (record,)
            for part in parts:
                yield read_cells(name, version, part, stamped=stamped)

    return rows


def _list_active(district: District, collection: str) -> Iterator[Record]:
    return (record for record in district.collections[collection].values() if is_active(record))


def _list_changed(district: District, collection: str, since_day: int) -> Iterator[Record]:
    """What came, changed or went since a day had begun; what came and went in between was never there."""
    history = district.history
    begun = 0
    if since_day:
        days = [changes.day for changes in history]
        begun = days.index(since_day) + 1 if since_day in days else len(history)
    first: dict[str, bool] = {}
    for changes in history[begun:]:
        of = changes[collection]
        for key in sorted(of.added | of.changed | of.removed):
            first.setdefault(key, key in of.added)
    records, departed = district.collections[collection], district.departed[collection]
    for key, is_new in first.items():
        record = records.get(key) or departed[key]
        if is_active(record) or not is_new:
            yield record


def _list_role_records(district: District, user: Record, *, delta: bool) -> Iterator[Record]:
    """A user's roles as records of their own, with those they have no more where changes are told."""
    for role in list_roles(user):
        yield _write_role(user, role)
    if delta and is_active(user):
        for org in sorted(district.left_orgs.get(user["sourcedId"], ())):
            (role,) = list_roles(user | {"orgs": [{"sourcedId": org}]})
            yield _write_role(user, role) | {"status": "tobedeleted"}


def _write_role(user: Record, role: Record) -> Record:
    return {
        "sourcedId": f"{user['sourcedId']}.{role['org']['sourcedId']}",
        "status": user["status"],
        "dateLastModified": user["dateLastModified"],
        "user": {"sourcedId": user["sourcedId"]},
        **role,
    }

"""One made-up school district behind the faces real providers show, with days that go by and trouble on demand."""

from sandbox_district.classlink import ClassLinkOrder
from sandbox_district.clever import CleverOrder
from sandbox_district.clever_records import clever_snapshot
from sandbox_district.days import Changes, Difference
from sandbox_district.district import District
from sandbox_district.faults import Fault, Faults
from sandbox_district.google_records import Classroom, classroom_snapshot
from sandbox_district.records import COLLECTIONS, Record
from sandbox_district.server import Sandbox, create_app, create_district, create_sandbox, running_sandbox

__all__ = [
    "COLLECTIONS",
    "Changes",
    "ClassLinkOrder",
    "Classroom",
    "CleverOrder",
    "Difference",
    "District",
    "Fault",
    "Faults",
    "Record",
    "Sandbox",
    "classroom_snapshot",
    "clever_snapshot",
    "create_app",
    "create_district",
    "create_sandbox",
    "running_sandbox",
]

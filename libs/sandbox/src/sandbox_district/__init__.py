"""One made-up school district behind the faces real providers show, with days that go by and trouble on demand."""

from sandbox_district.days import Changes, Difference
from sandbox_district.district import District
from sandbox_district.faults import Fault, Faults
from sandbox_district.records import COLLECTIONS, Record
from sandbox_district.server import Sandbox, create_app, create_district, create_sandbox, running_sandbox

__all__ = [
    "COLLECTIONS",
    "Changes",
    "Difference",
    "District",
    "Fault",
    "Faults",
    "Record",
    "Sandbox",
    "create_app",
    "create_district",
    "create_sandbox",
    "running_sandbox",
]

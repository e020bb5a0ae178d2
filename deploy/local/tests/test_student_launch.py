"""The launch that the demo ends with: it fails unless the right student really came in."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest

from homeroom_local.sign_in_setup import PRODUCT
from homeroom_local.student_launch import LaunchError, _compare, launch_student
from sandbox_district import District, running_sandbox

PERSON = {
    "sourced_id": "stu-1",
    "given": "Ada",
    "family": "Byrne",
    "role": "student",
    "classes": ["c-2", "c-1"],
}
CLAIMS = {
    "sub": "opaque",
    "sourced_id": "stu-1",
    "name": "Ada Byrne",
    "roles": ["student"],
    "organization": {"id": "o-1", "name": "North"},
    "classes": [{"sourced_id": "c-1", "title": "Art"}, {"sourced_id": "c-2", "title": "Music"}],
}


def test_the_truth_is_taken() -> None:
    """Claims that are the district's truth of the student pass, in whatever order classes come."""
    _compare(CLAIMS, PERSON, "o-1")


@pytest.mark.parametrize(
    "wrong",
    [
        {"sourced_id": "stu-2"},
        {"name": "Ada Burne"},
        {"roles": ["student", "teacher"]},
        {"organization": {"id": "o-2", "name": "South"}},
        {"classes": CLAIMS["classes"][:1]},  # type: ignore[index]  # it is the list above
        {"sub": ""},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_another_student_is_not(wrong: dict[str, Any]) -> None:
    """Claims that differ from the district's truth in anything make the demo fail."""
    with pytest.raises(LaunchError):
        _compare(CLAIMS | wrong, PERSON, "o-1")


async def test_a_launch_that_stops_on_its_way_fails() -> None:
    """Without a tile, and with one that does not lead into the product, the demo fails and says where it stopped."""
    async with (
        running_sandbox(District(students=30)) as sandbox,
        httpx2.AsyncClient(base_url=sandbox.url, timeout=10, trust_env=False) as district,
    ):
        portals = (await district.get("/sandbox")).json()["portals"]
        with pytest.raises(LaunchError, match="tile is not on the portal"):
            await launch_student(district, portals, "o-1")
        tile = {"portal": "launchpad", "name": PRODUCT, "url": f"{sandbox.url}/idp"}
        await district.post("/sandbox/tiles", json=tile)
        with pytest.raises(LaunchError, match=r"ended at /idp/sign-in with 200 \(Sign in to Lake Verity ID\)"):
            await launch_student(district, portals, "o-1")

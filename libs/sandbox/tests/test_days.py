"""Days that go by: what is said to have changed is exactly what changed."""

import copy

from sandbox_district import COLLECTIONS, District, Record


def active_contents(district: District) -> dict[str, dict[str, Record]]:
    """The active records without their dates, copied."""
    return {
        name: {
            key: {field: copy.deepcopy(value) for field, value in record.items() if field != "dateLastModified"}
            for key, record in district.active(name).items()
        }
        for name in COLLECTIONS
    }


def test_changes_are_exact() -> None:
    """What a day reports as added, changed and removed is exactly the difference of the active records."""
    district = District(5, 300)
    for day in range(1, 8):
        before = active_contents(district)
        changes = district.advance_day()
        after = active_contents(district)
        assert changes.day == day
        for name in COLLECTIONS:
            old, new = before[name], after[name]
            assert changes[name].added == new.keys() - old.keys()
            assert changes[name].removed == old.keys() - new.keys()
            assert changes[name].changed == {key for key in old.keys() & new.keys() if old[key] != new[key]}


def test_every_kind_of_change_happens() -> None:
    """Within a few days every collection changes, and people, classes and enrollments come, change and go."""
    district = District(2, 300)
    days = [district.advance_day() for _ in range(6)]
    assert all(any(day[name] for day in days) for name in COLLECTIONS)
    for day in days:
        assert day["users"].added
        assert day["users"].changed
        assert day["users"].removed
        assert day["enrollments"].added
        assert day["enrollments"].changed
        assert day["enrollments"].removed
        assert day["classes"].added
        assert day["demographics"].removed


def test_leavers_go_with_and_without_a_tombstone() -> None:
    """Of those who leave in a day some stay as tombstones with all that was theirs, and others vanish without trace."""
    district = District(2, 300)
    removed = district.advance_day()["users"].removed
    users = district.collections["users"]
    buried = {key for key in removed if key in users}
    assert buried
    assert removed - buried
    assert all(users[key]["status"] == "tobedeleted" for key in buried)
    for enrollment in district.active("enrollments").values():
        assert enrollment["user"]["sourcedId"] not in removed


def test_enrollments_go_with_and_without_a_tombstone() -> None:
    """Dropped enrollments vanish or stay as tombstones, which are still there days later."""
    district = District(2, 300)
    removed = district.advance_day()["enrollments"].removed
    buried = {key for key in removed if key in district.collections["enrollments"]}
    assert buried
    assert removed - buried
    district.advance_day()
    assert {key for key in buried if key in district.collections["enrollments"]} == buried


def test_changed_records_get_a_new_date() -> None:
    """The dateLastModified is new on what was added, changed or buried, and the old one on everything else."""
    district = District(4, 200)
    before = {name: dict(district.collections[name]) for name in COLLECTIONS}
    changes = district.advance_day()
    for name in COLLECTIONS:
        touched = changes[name].added | changes[name].changed | changes[name].removed
        for key, record in district.collections[name].items():
            if key in touched:
                assert record["dateLastModified"] == "2026-09-15T05:00:00.000Z"
            else:
                assert record["dateLastModified"] == before[name][key]["dateLastModified"]


def test_edit_of_ones_own() -> None:
    """An edit of one's own, even in place, is reported as exactly as a day is, and stands in the history."""
    district = District(students=20)
    user = next(iter(district.active("users")))

    def rename_and_drop() -> None:
        district.collections["users"][user]["givenName"] = "Somebody"
        del district.collections["courses"]["101"]

    changes = district.change(rename_and_drop)
    assert changes["users"].changed == {user}
    assert changes["courses"].removed == {"101"}
    assert not any(changes[name] for name in COLLECTIONS if name not in {"users", "courses"})
    assert district.history == [changes]


def test_truth_adds_up() -> None:
    """The truth of one day and its changes make the truth of the next."""
    district = District(9, 150)
    for _ in range(5):
        truth = district.truth()
        changes = district.advance_day()
        for name in COLLECTIONS:
            truth[name] = (truth[name] - changes[name].removed) | changes[name].added
        assert truth == district.truth()


def test_counts() -> None:
    """Changes can be counted by collection."""
    changes = District(students=50).advance_day()
    assert changes.counts()["users"] == {
        "added": len(changes["users"].added),
        "changed": len(changes["users"].changed),
        "removed": len(changes["users"].removed),
    }

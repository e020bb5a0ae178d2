"""Each class of attack on sign-in that is known for brokers like this one has a test that carries its number."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
CLASSES = 75

ELSEWHERE: dict[int, str] = {}
"""Classes that can't be met here, each with the reason."""


def _find_tests() -> dict[int, list[str]]:
    found: dict[int, list[str]] = {}
    for folder in ("services/sso/tests", "tests"):
        for path in (ROOT / folder).rglob("test_*.py"):
            for name, number in re.findall(r"def (test_attack_(\d\d)_\w+)", path.read_text("utf-8")):
                found.setdefault(int(number), []).append(name)
    return found


def test_every_class_of_attack_has_a_test() -> None:
    """No class of attack is left without a test or a reason."""
    found = _find_tests()
    missing = [number for number in range(1, CLASSES + 1) if number not in found and number not in ELSEWHERE]
    assert not missing
    assert not set(ELSEWHERE) & set(found)
    assert not set(found) - set(range(1, CLASSES + 1))

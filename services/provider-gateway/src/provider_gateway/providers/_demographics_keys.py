"""What districts put into a demographics record's metadata, and we give a field of its own (pure; B5).

ClassLink passes these on as metadata columns at the end of demographics.csv. The keys are case sensitive, only the
values named here are taken, and the metadata themselves stay as they are (B6).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from homeroom.codes import Code
from provider_gateway.failures import RecordProblem

FRL_KEYS: Final = ("frl", "frl_status", "frl-status")
"""Free or reduced lunch: any text."""
IEP_KEYS: Final = ("iep", "iep_status", "iep-status", "sped", "CL.sped")
"""Individual education plan: `true` or `false`."""
ELL_KEYS: Final = ("ell", "ell_status", "ell-status", "emergentBilingual", "CL.lep")
"""English language learner: `true` or `false`."""
LONGEST_STATUS: Final = 255

_FLAGS: Final = {"true": True, "false": False}


class KeyedDemographics(NamedTuple):
    """What was found under the known keys; None where there is nothing, or nothing that can be taken."""

    frl: str | None
    iep: bool | None
    ell: bool | None
    notes: list[RecordProblem]
    """Values that were not taken: BAD_ENUM or FIELD_TOO_LONG with the field `metadata.<key>`."""


def read_keys(metadata: Mapping[str, Any] | None, sourced_id: str | None = None) -> KeyedDemographics:
    """The values under the known keys; of several keys the first in the listed order whose value can be taken.

    Args:
        metadata: as the provider sent it, the keys without a `metadata.` before them.
        sourced_id: of the record, for the notes.

    >>> read_keys({"frl": "Reduced", "sped": "true", "CL.lep": "false"})[:3]
    ('Reduced', True, False)
    >>> [(note.code.value, note.field) for note in read_keys({"sped": "TRUE", "iep": ""}).notes]
    [('BAD_ENUM', 'metadata.sped')]
    """
    notes: list[RecordProblem] = []
    if not metadata:
        return KeyedDemographics(None, None, None, notes)

    def choose(keys: tuple[str, ...], take: Callable[[Any], str | bool]) -> Any:
        chosen = None
        for key in keys:
            value = metadata.get(key)
            if value is None or value == "":
                continue
            try:
                taken = take(value)
            except RecordProblem as problem:
                problem.field, problem.sourced_id = f"metadata.{key}", sourced_id
                notes.append(problem)
            else:
                chosen = taken if chosen is None else chosen
        return chosen

    return KeyedDemographics(
        choose(FRL_KEYS, _take_status), choose(IEP_KEYS, _take_flag), choose(ELL_KEYS, _take_flag), notes
    )


def _take_status(value: Any) -> str:
    if not isinstance(value, str):
        raise RecordProblem(Code.BAD_ENUM)
    if len(value) > LONGEST_STATUS:
        raise RecordProblem(Code.FIELD_TOO_LONG)
    return value


def _take_flag(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    flag = _FLAGS.get(value) if isinstance(value, str) else None
    if flag is None:
        raise RecordProblem(Code.BAD_ENUM)
    return flag

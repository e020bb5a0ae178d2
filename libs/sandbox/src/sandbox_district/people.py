"""The people of the district, all of them made up, with names in the scripts real districts have."""

import tomllib
from datetime import date, timedelta
from functools import cache
from importlib import resources
from random import Random
from typing import NamedTuple

import msgspec

from sandbox_district.records import Record, compose, refer

DOMAIN = "lakeverity.example"
GRADES = ("KG", "01", "02", "03", "04", "05", "06", "07", "08", "09", "10", "11", "12")
_RACES = (
    "americanIndianOrAlaskaNative",
    "asian",
    "blackOrAfricanAmerican",
    "nativeHawaiianOrOtherPacificIslander",
    "white",
    "demographicRaceTwoOrMoreRaces",
    "hispanicOrLatinoEthnicity",
)
_FRL_KEYS = ("frl", "frl_status", "frl-status")
_IEP_KEYS = ("iep", "iep_status", "iep-status", "sped", "CL.sped")
_ELL_KEYS = ("ell", "ell_status", "ell-status", "emergentBilingual", "CL.lep")


class Script(msgspec.Struct, frozen=True):
    """A way of writing names: how often it comes up, and its given and family names."""

    name: str
    weight: int
    given: list[str]
    family: list[str]


class Name(NamedTuple):
    """What a person is called."""

    given: str
    family: str
    middle: str | None = None


@cache
def load_scripts() -> list[Script]:
    """The scripts names are drawn from, as listed in names.toml."""
    text = resources.files("sandbox_district").joinpath("names.toml").read_text("utf-8")
    return msgspec.convert(tomllib.loads(text)["script"], list[Script])


def draw_name(rng: Random, family: str | None = None) -> Name:
    """A name: of a script, and for a relative with the family name that is given."""
    scripts = load_scripts()
    if family is None:
        (script,) = rng.choices(scripts, [script.weight for script in scripts])
        family = rng.choice(script.family)
    else:
        script = next((script for script in scripts if family in script.family), scripts[0])
    middle = rng.choice(script.given) if happens(rng, 30) else None
    return Name(rng.choice(script.given), family, middle)


def write_student(rng: Random, number: int, name: Name, grade: str, schools: list[str]) -> Record:
    """A student. Some have no e-mail address, some an address in odd case, and the youngest a password."""
    username = f"s{100000 + number}"
    address: str | None = f"{username}@students.{DOMAIN}"
    match rng.randrange(40):
        case 0:
            address = None
        case 1:
            address = ""
        case 2:
            address = f"{username.upper()}@Students.{DOMAIN.title()}"
    return compose(
        f"stu-{100000 + number}",
        {
            "vendor.lunchCode": f"{rng.randrange(10000):04}",
            "vendor": {"bus": rng.randrange(1, 30), "tags": ["am", "pm"]},
        },
        username=username,
        userIds=[
            {"type": "SIS", "identifier": str(100000 + number)},
            {"type": "State", "identifier": f"LV{number:08}"},
        ],
        enabledUser=not happens(rng, 1),
        givenName=name.given,
        familyName=name.family,
        middleName=name.middle,
        role="student",
        identifier=str(100000 + number),
        email=address,
        sms=draw_phone(rng) if happens(rng, 30) else None,
        phone="" if happens(rng, 50) else None,
        agents=[],
        orgs=[refer("org", school) for school in schools],
        grades=[grade],
        password="picture-of-a-duck" if grade == "KG" else None,
    )


def write_adult(rng: Random, role: str, sourced_id: str, name: Name, schools: list[str], **metadata: str) -> Record:
    """A teacher, administrator, aide, parent or guardian."""
    username = f"{role[0]}.{sourced_id.rpartition('-')[2]}"
    family_role = role in {"parent", "guardian"}
    return compose(
        sourced_id,
        dict(metadata),
        username=username,
        userIds=[] if family_role else [{"type": "Payroll", "identifier": f"P-{sourced_id}"}],
        enabledUser=True,
        givenName=name.given,
        familyName=name.family,
        middleName=name.middle,
        role=role,
        identifier=None if family_role else sourced_id,
        email=f"{username}@{'families' if family_role else 'staff'}.{DOMAIN}",
        sms=draw_phone(rng) if family_role else None,
        phone=draw_phone(rng),
        agents=[],
        orgs=[refer("org", school) for school in schools],
        grades=[],
    )


def write_demographics(rng: Random, student: Record, today: date) -> Record:
    """A student's demographics, with the meal, support and language marks under each of the keys providers use."""
    race = rng.choice(_RACES)
    age = 5 + GRADES.index(student["grades"][0])
    metadata = {
        rng.choice(_FRL_KEYS): rng.choice(("Free", "Reduced", "Paid")),
        rng.choice(_IEP_KEYS): "true" if happens(rng, 12) else "false",
        rng.choice(_ELL_KEYS): "true" if happens(rng, 15) else "false",
    }
    born = date(today.year - age, 1, 1) + timedelta(days=rng.randrange(365))
    return compose(
        student["sourcedId"],
        metadata,
        birthDate=born.isoformat(),
        sex=rng.choice(("female", "male")),
        **{flag: flag == race for flag in _RACES},
        countryOfBirthCode=rng.choice(("US", "US", "MX", "VN", "UA")),
        stateOfBirthAbbreviation="CA",
        cityOfBirth=rng.choice(("Lake Verity", "Port Amity", "")),
        publicSchoolResidenceStatus="01",
    )


def happens(rng: Random, percent: int) -> bool:
    """Whether something happens that does so in some cases of a hundred."""
    return rng.randrange(100) < percent


def draw_phone(rng: Random) -> str:
    """A telephone number from the range that is kept for fiction."""
    return f"+1-{rng.choice(('209', '530', '707'))}-555-01{rng.randrange(100):02}"

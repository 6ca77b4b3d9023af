"""Field types that all inputs share, with the checks that would otherwise fail only in the database."""

import re
from datetime import UTC, datetime
from typing import Annotated, Any
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints

from core.errors import Invalid

_CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_LINE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")  # also every character at which str.splitlines splits
_ADDRESS = re.compile(r"[^@\s\x00-\x1f\x7f-\x9f<>()\[\],;:\\\"]{1,64}@[^@\s\x00-\x1f\x7f-\x9f<>()\[\],;:\\\"]{1,255}")


def no_controls(value: str) -> str:
    """The text, without control characters but tab and line breaks. Raises ValueError."""
    if _CONTROLS.search(value):
        raise ValueError("contains control characters")
    return value


def _one_line(value: str) -> str:
    if _LINE.search(value):
        raise ValueError("must be one line without control characters")
    return value


def _address(value: str) -> str:
    if not _ADDRESS.fullmatch(value):
        raise ValueError("is no email address; write it like name@example.com")
    return value


def _zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (KeyError, ValueError, OSError):
        raise ValueError("is no IANA time zone; write it like Europe/Lisbon") from None
    return value


def _in_range(value: datetime) -> datetime:
    if not 1970 <= value.year <= 9000:
        raise ValueError("must lie between the years 1970 and 9000")
    return value.astimezone(UTC)


Line = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200), AfterValidator(_one_line)]
"""A name or a title: one line, 1 to 200 characters."""
Prose = Annotated[str, StringConstraints(strip_whitespace=True, max_length=10_000), AfterValidator(no_controls)]
"""Text with line breaks, at most 10,000 characters."""
Address = Annotated[str, StringConstraints(strip_whitespace=True, max_length=254), AfterValidator(_address)]
"""An email address, internationalised ones included (length: RFC 5321, section 4.5.3.1)."""
Zone = Annotated[str, AfterValidator(_zone)]
Moment = Annotated[AwareDatetime, AfterValidator(_in_range)]
"""A point in time: its offset is required, its value is converted to UTC."""
Id = Annotated[int, Field(ge=1, le=2**63 - 1)]
"""A bigint key."""
Minutes = Annotated[int, Field(ge=1, le=7 * 1440)]


class Input(BaseModel):
    """A client's input: an unknown field is an error that names it."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def changed_fields(given: Input, nullable: set[str]) -> dict[str, Any]:
    """The fields that a patch sets, with their values. Raises Invalid when it sets none, or a required one to null."""
    named = {name: getattr(given, name) for name in sorted(given.model_fields_set)}
    if not named:
        raise Invalid("body", "names nothing to change")
    for name, value in named.items():
        if value is None and name not in nullable:
            raise Invalid(name, "cannot be emptied")
    return named

"""The parameters of a requested report: its type, subject and period, and the hash that identifies the request."""

import hashlib
import json
import re
from datetime import date as Day  # noqa: N812 - to distinguish it from the datetimes beside it
from datetime import datetime, time, timedelta
from typing import Annotated, Any
from zoneinfo import ZoneInfo

from pydantic import BeforeValidator, Field, TypeAdapter, ValidationError, WithJsonSchema

from core.errors import Invalid
from core.fields import Address, Id, Input, Moment
from core.reports.data import Period
from core.reports.registry import REPORTS, ReportType
from core.settings import settings

DEFAULT_PERIOD = timedelta(days=30)
"""The period when none is given: so many full days, the last one yesterday."""
MAX_PERIOD = timedelta(days=5 * 366)

_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_NUMBER = re.compile(r"\s*[-+\d.]+\s*")
"""Numbers, which pydantic would take for seconds since 1970, even a date without hyphens."""
_moment = TypeAdapter(Moment)


def _day_or_moment(value: Any) -> Any:
    if isinstance(value, str) and _DATE.fullmatch(value):
        try:
            found = Day.fromisoformat(value)
        except ValueError:
            raise ValueError("is no day of the calendar") from None
    elif isinstance(value, Day) and not isinstance(value, datetime):
        found = value
    elif isinstance(value, datetime) or (isinstance(value, str) and not _NUMBER.fullmatch(value)):
        try:
            return _moment.validate_python(value)
        except ValidationError:
            raise ValueError("must be a date, or a time with its offset, of the years 1970 to 9000") from None
    else:
        raise ValueError("must be a date like 2026-11-01, or a time with its offset like 2026-11-01T00:00:00Z")
    if not 1970 <= found.year <= 9000:
        raise ValueError("must lie between the years 1970 and 9000")
    return found


DateOrTime = Annotated[
    datetime | Day,
    BeforeValidator(_day_or_moment),
    WithJsonSchema({"type": "string", "examples": ["2026-11-01", "2026-11-01T00:00:00Z"]}),
]
"""A time with its offset, or a date, which stands for its midnight in the platform's zone."""


def _types_about(parameter: str) -> str:
    return "of " + ", ".join(name for name, kind in REPORTS.items() if kind.subject == parameter)


class NewReport(Input):
    """A report to request, of [``start``, ``end``): without them, of the last 30 days before today in the platform's
    zone; for a candidate, of all time."""

    type: ReportType
    interview_id: Id | None = Field(None, description=_types_about("interview_id"))
    candidate_id: Id | None = Field(None, description=_types_about("candidate_id"))
    start: DateOrTime | None = None
    end: DateOrTime | None = Field(None, description="the period ends before it; a date is its midnight")
    email_to: Address | None = Field(None, description="mailed there when it is ready: as a file, or a link if large")


def new_report(**given: Any) -> NewReport:
    """A request from plain values. Raises Invalid for the first invalid one."""
    try:
        return NewReport(**given)
    except ValidationError as error:
        first = error.errors()[0]
        raise Invalid(str(first["loc"][0]), first["msg"].removeprefix("Value error, ")) from None


_SUBJECTS = tuple(kind.subject for kind in REPORTS.values() if kind.subject)


def parameters_of(given: NewReport, *, now: datetime) -> dict[str, Any]:
    """The request's parameters as they are stored, the period as two times in UTC. Raises Invalid."""
    kind = REPORTS[given.type]
    needed = kind.subject
    for name in _SUBJECTS:
        value = getattr(given, name)
        if name == needed and value is None:
            raise Invalid(name, f"is needed for a report of type {given.type}")
        if name != needed and value is not None:
            raise Invalid(name, f"does not go with a report of type {given.type}")
    parameters: dict[str, Any] = {needed: getattr(given, needed)} if needed else {}
    if not kind.all_time or given.start or given.end:
        parameters["start"], parameters["end"] = (moment.isoformat() for moment in _bounds(given, now))
    return parameters


def _bounds(given: NewReport, now: datetime) -> tuple[datetime, datetime]:
    zone = ZoneInfo(settings().timezone)
    today = datetime.combine(now.astimezone(zone).date(), time(), zone)
    end = _at(given.end, zone) if given.end else today
    # in the zone: thirty days back is the same local time, across changes of the clocks too
    start = _at(given.start, zone) if given.start else (end.astimezone(zone) - DEFAULT_PERIOD)
    start, end = (moment.astimezone(ZoneInfo("UTC")) for moment in (start, end))
    if start >= end:
        last = f"the end, {end:%Y-%m-%dT%H:%M:%SZ}" if given.end else "today, with which a period without an end ends"
        raise Invalid("start" if given.start else "end", f"the period would be empty: start must lie before {last}")
    if end - start > MAX_PERIOD:
        raise Invalid("start", f"the period is {(end - start).days} days long; at most {MAX_PERIOD.days} are possible")
    return start, end


def _at(given: datetime | Day, zone: ZoneInfo) -> datetime:
    return given if isinstance(given, datetime) else datetime.combine(given, time(), zone)


def period_of(parameters: dict[str, Any]) -> Period | None:
    """The period of a stored request; None: all time."""
    if "start" not in parameters:
        return None
    start, end = (datetime.fromisoformat(parameters[name]) for name in ("start", "end"))
    return Period(start, end, settings().timezone)


def required_period(parameters: dict[str, Any]) -> Period:
    """The period of a stored request for a report that always has one."""
    period = period_of(parameters)
    assert period is not None  # noqa: S101 - by the registry
    return period


def request_hash(kind: str, parameters: dict[str, Any], email_to: str | None = None) -> str:
    """A hash of a request's type, parameters and mail address: identical requests have the same."""
    hashed = [kind, parameters, *([email_to] if email_to else [])]
    return hashlib.sha256(json.dumps(hashed, sort_keys=True).encode()).hexdigest()

"""Names of report files that every system accepts."""

import re
from datetime import timedelta
from zoneinfo import ZoneInfo

from core.reports.data import Period


def days(period: Period) -> str:
    """The period's first and last day in its zone."""
    zone = ZoneInfo(period.zone)
    first = period.start.astimezone(zone).date()
    last = (period.end - timedelta(microseconds=1)).astimezone(zone).date()
    return f"{first}" if last <= first else f"{first} to {last}"


_NOT_IN_NAMES = re.compile(
    r'[\x00-\x1f\x7f-\x9f<>:"/\\|?*%\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]+'
)
_DAYS = re.compile(r" \d{4}-\d\d-\d\d(?: to \d{4}-\d\d-\d\d)?$", re.ASCII)
_LONGEST, _MOST_BYTES = 80, 200
"""Characters, and bytes (file systems allow 255; in most scripts a character has two to four)."""


def filename(name: str, ending: str) -> str:
    """A file name for every system: without separators, hidden and reordering characters, and not too long."""
    cleaned = re.sub(r"\s+", " ", _NOT_IN_NAMES.sub(" ", name)).strip(" .")
    # the days at the end are kept: they distinguish files with the same name
    days = found[0] if (found := _DAYS.search(cleaned)) else ""
    head = cleaned.removesuffix(days)[: _LONGEST - len(days)]
    head = head.encode()[: _MOST_BYTES - len(days)].decode(errors="ignore").rstrip(" .")
    return f"{head + days or 'Report'}.{ending}"

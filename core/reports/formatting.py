"""Formats numbers, times and names for reports."""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from markupsafe import Markup

from core.reports.data import Period, Ratio

UNDEFINED = "–"
FEW = 20
"""Below this n a figure is greyed, and no finding is based on it."""
_MOMENT = timedelta(microseconds=1)
_LONGEST = 60
_PASSAGE, _LINES = 1200, 30
_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")


def number(value: float) -> str:
    """1948 as "1,948"; fractions with one digit below a hundred."""
    if value == int(value) or abs(value) >= 100:
        return f"{round(value):,}".replace("-", "−")
    return f"{value:.1f}".replace("-", "−")


def percent(part: float, whole: float) -> str:
    """A share with a decimal only from a whole of 200; 0% and 100% are printed only where they are exact."""
    if not whole:
        return UNDEFINED
    digits = 1 if whole >= 200 else 0
    least = 10**-digits
    share = 100 * part / whole
    if part and share < least / 2:
        return f"<{least:.{digits}f}%"
    if part < whole and share > 100 - least / 2:
        return f">{100 - least:.{digits}f}%"
    return f"{share:.{digits}f}%" if 0 < part < whole else f"{share:.0f}%"


def ratio(value: Ratio) -> str:
    """A ratio as percent; "–" where it is undefined."""
    return percent(value.part, value.whole)


def share(value: Ratio) -> str:
    """A ratio inside a sentence: counts while they are few, else percent."""
    if value.whole and value.whole < FEW:
        return f"{value.part} of {value.whole}"
    return ratio(value)


def count(n: int, one: str, many: str = "") -> str:
    """ "no sessions", "1 session", "1,948 sessions"."""
    if n == 1:
        return f"1 {one}"
    return f"{f'{n:,}' if n else 'no'} {many or one + 's'}"


def completed(n: int, thing: str) -> str:
    """ "1 session was completed", "no sessions were completed"."""
    return f"{count(n, thing)} {'was' if n == 1 else 'were'} completed"


def all_of(n: int) -> str:
    """ "Both" or "All 12", before a plural."""
    return "Both" if n == 2 else f"All {n:,}"


def hours(value: float | None) -> str:
    """A duration, given in hours, in a suitable unit: minutes, hours or days."""
    if value is None:
        return UNDEFINED
    if value < 0:
        return "−" + hours(-value)
    if value < 0.95:
        return f"{max(1, round(value * 60)) if value else 0} min"
    if value < 47.5:
        return f"{number(round(value, 1) if value < 9.95 else round(value))} h"
    days = value / 24
    return f"{number(round(days, 1) if days < 9.95 else round(days))} d"


def minutes(seconds: float | None) -> str:
    """A duration, given in seconds, in a suitable unit: 45 s, 3.5 min, 1.2 h."""
    if seconds is None:
        return UNDEFINED
    return f"{round(seconds)} s" if seconds < 90 else hours(seconds / 3600)


def join_words(words: Sequence[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def name(text: str, longest: int = _LONGEST) -> Markup:
    """A name or title inside a sentence: escaped, direction-isolated, shortened with an ellipsis."""
    return Markup("<bdi>{}</bdi>").format(shorten(text, longest))


def shorten(text: str, longest: int) -> str:
    """At most that many characters, on one line, never cut inside a combined character."""
    text = " ".join(printable(text).split())
    if len(text) <= longest:
        return text
    at = longest - 1
    while at > 1 and is_combined(text, at):
        at -= 1
    return text[:at].rstrip() + "…"


def passage(text: str) -> str:
    """A text that somebody wrote, with its line breaks, shortened to what fits into a report."""
    whole = "\n".join(printable(text).strip().splitlines())
    kept = "\n".join(whole[:_PASSAGE].splitlines()[:_LINES])
    return whole if len(kept) == len(whole) else kept.rstrip() + "…"


def printable(text: str) -> str:
    """The text without characters that change the direction of other text or cannot be printed."""
    return _UNSEEN.sub("", text)


def is_combined(text: str, at: int) -> bool:
    """Whether the character at ``at`` and the one before it are displayed as one, so that no cut may separate them."""
    return (
        unicodedata.category(text[at])[0] == "M"
        or text[at] == "\u200d"
        or text[at - 1] == "\u200d"
        or "\U0001f3fb" <= text[at] <= "\U0001f3ff"
        or "\U0001f1e6" <= text[at] <= "\U0001f1ff"
    )


def day(at: datetime, zone: str) -> str:
    """ "23 Nov 2026", in that zone."""
    local = at.astimezone(ZoneInfo(zone))
    return f"{local.day} {local:%b %Y}"


def moment(at: datetime, zone: str) -> str:
    """ "23 Nov 2026 06:00", in that zone."""
    return f"{day(at, zone)} {at.astimezone(ZoneInfo(zone)):%H:%M}"


@dataclass(frozen=True, slots=True)
class PeriodNames:
    """Names of a period for titles and sentences, and of the period before it."""

    title: str
    this: str
    before: str
    interval: str
    """[a, b): the end is not part of it."""

    @property
    def earlier(self) -> str:
        """The period before, as the end of a sentence."""
        return self.before if self.this == "day" else f"in {self.before}"

    @property
    def now(self) -> str:
        """The period's name in a chart that compares it with the one before."""
        return f"this {self.this}" if " " not in self.this else "this period"


def period_names(period: Period) -> PeriodNames:
    """A day, a month, a quarter or a year by its name; any other period by its first and last day."""
    zone = ZoneInfo(period.zone)
    start, end = period.start.astimezone(zone), period.end.astimezone(zone)
    whole = (start.hour, start.minute, end.hour, end.minute) == (0, 0, 0, 0)
    shown = (day if whole else moment)(period.start, period.zone), (day if whole else moment)(period.end, period.zone)
    interval = f"[{shown[0]}, {shown[1]})"
    days = (end.date() - start.date()).days if whole else 0
    if days < 1:
        return PeriodNames(_range(start, end - _MOMENT), "period", "the period before", interval)
    title, this = _period_title(start, end, days)
    before = f"the {this} before" if this in {"day", "week"} else f"the {days:,} days before"
    return PeriodNames(title, this, before, interval)


def _period_title(start: datetime, end: datetime, days: int) -> tuple[str, str]:
    """The title of a period of whole days, and the kind of period it is."""
    months = 12 * (end.year - start.year) + end.month - start.month if start.day == end.day == 1 else 0
    if days == 1:
        return _range(start, start), "day"
    if months == 1:
        return f"{start:%B %Y}", "month"
    if months == 3 and start.month % 3 == 1:
        return f"Q{start.month // 3 + 1} {start.year}", "quarter"
    if months == 12 and start.month == 1:
        return f"{start.year}", "year"
    return _range(start, end - _MOMENT), "week" if days == 7 else f"{days:,} days"


def _range(start: datetime, last: datetime) -> str:
    """ "31 Aug – 22 Nov 2026": from a day to a day."""
    if start.date() == last.date():
        return f"{start:%A} {start.day} {start:%b %Y}"
    year = f" {start.year}" if start.year != last.year else ""
    return f"{start.day} {start:%b}{year} – {last.day} {last:%b %Y}"

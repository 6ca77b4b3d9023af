"""The variables of the mail templates, for one recipient: times in their zone, names made safe."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from core.emails.addresses import default_sender, one_line, safe_name, valid_address
from core.emails.content.session_details import SessionDetails, party_of
from core.emails.content.times import TimeRange, length, moment, short_day, short_moment, zone, zone_name
from core.emails.draft import Attachment, Recipient
from core.settings import settings


@dataclass(frozen=True, slots=True)
class ReportNotice:
    """A report to mail: ready, with its files or links to them, or failed, with the reason.

    Its period is [``start``, ``end``). ``links`` are label and URL of the files that are not attached.
    """

    title: str
    start: datetime | None = None
    end: datetime | None = None
    data_as_of: datetime | None = None
    files: tuple[Attachment, ...] = ()
    links: tuple[tuple[str, str], ...] = ()
    daily: bool = False
    problem: str | None = None

    @property
    def category(self) -> str:
        """What preferences and suppressions are asked for."""
        return "daily_report" if self.daily else "report_ready"


def brand() -> str:
    """The name in the header and signature of every mail: that of ``MAIL_FROM``."""
    return default_sender().name or "Greenroom"


def session_url(about: SessionDetails) -> str:
    """The address of the session's page, for those who may see it: ``SESSION_URL``, or the board."""
    return settings().session_page(about.session_id)


def session_view(
    about: SessionDetails, recipient: Recipient, *, now: datetime, previous_start: datetime | None, reason: str | None
) -> dict[str, Any]:
    """The template variables of a mail about a session."""
    party = party_of(about, recipient)
    candidate = safe_name(about.candidate.name or "") or "the candidate"
    position, title = one_line(about.position), one_line(about.title)
    start, end, zone_ = about.scheduled_start, about.scheduled_end, recipient.timezone
    when = TimeRange.of(start, end, zone_) if start and end else None
    previous = TimeRange.of(previous_start, previous_start, zone_) if previous_start else None
    recruiter = safe_name(about.recruiter.name) if about.recruiter and not about.recruiter.deleted else None
    deadline = (about.ended_at or now) + timedelta(hours=about.feedback_deadline_hours)
    to_candidate = party == "candidate"
    return {
        "brand": brand(),
        "to": one_line(recipient.name or "", 150) or None,
        "greeting": f"Hello {safe_name(recipient.name)}," if recipient.name else "Hello,",
        "party": party,
        "to_candidate": to_candidate,
        "candidate": candidate,
        "interviewer": safe_name(about.interviewer.name or "") if about.interviewer else None,
        "recruiter": recruiter,
        "contact": recruiter or "we",
        "takes_replies": valid_address(about.reply_to) is not None,
        "position": position,
        "title": title,
        "when": when,
        "previous": previous,
        "moved": previous is None or when is None or previous.start != when.start,
        "relative": when.relative(now) if when else None,
        "open_until": TimeRange.of(about.invitation_expires_at, about.invitation_expires_at, zone_)
        if about.invitation_expires_at
        else None,
        "short_ended": short_moment(about.ended_at or now, zone_),
        "deadline": moment(deadline, zone_),
        "short_deadline": short_moment(deadline, zone_),
        "feedback_hours": about.feedback_deadline_hours,
        "length": length(about.duration_minutes),
        "resume": length(about.resume_minutes),
        "reason": reason.strip() if reason and reason.strip() else None,
        "url": session_url(about),
        "facts": _labelled_details(
            about,
            when,
            to_candidate=to_candidate,
            title=title,
            position=position,
            candidate=candidate,
            contact=recruiter,
        ),
        "summary": f"Interview: {position}" if to_candidate else f"Interview with {candidate}: {position}",
        "purpose": f"Your interview for the position of {position}."
        if to_candidate
        else f"You interview {candidate} for the position of {position}.",
    }


def _labelled_details(
    about: SessionDetails,
    when: TimeRange | None,
    *,
    to_candidate: bool,
    title: str,
    position: str,
    candidate: str,
    contact: str | None,
) -> list[tuple[str, str]]:
    """The details shown below the time, as label and value."""
    facts = [] if to_candidate else [("Candidate", candidate)]
    facts.append(("Position", position))
    if title != position:
        facts.append(("Interview", title))
    facts.append(("Length", length(about.duration_minutes)))
    if to_candidate:
        facts.append(("With", safe_name(about.interviewer.name or "") if about.interviewer else "Our AI interviewer"))
    elif when is not None and (theirs := when.same_time(about.candidate.timezone)):
        day = "" if theirs.start.date() == when.start.date() else f"{theirs.short_day}, "
        facts.append(("Their time", f"{day}{theirs.hours} {theirs.zone}"))
    if not to_candidate and contact:
        facts.append(("Recruiter", contact))
    return facts


def report_view(report: ReportNotice, recipient: Recipient, *, now: datetime) -> dict[str, Any]:
    """The template variables of a mail about a report; its period is in the platform's zone, like the report's."""
    title = one_line(report.title)
    facts = []
    if report.start and report.end:
        facts.append(("Period", period(report.start, report.end, settings().timezone)))
    if report.data_as_of:
        facts.append(("Data as of", short_moment(report.data_as_of, recipient.timezone)))
    for file in report.files:
        facts.append(("Attached", f"{one_line(file.filename, 60)}, {size(len(file.content))}"))
    return {
        "brand": brand(),
        "to": one_line(recipient.name or "", 150) or None,
        "greeting": f"Hello {safe_name(recipient.name)}," if recipient.name else "Hello,",
        "title": title,
        "facts": facts,
        "period": facts[0][1] if report.start and report.end else None,
        "problem": one_line(report.problem, 500) if report.problem else None,
        "attached": bool(report.files),
        "links": [(one_line(label, 60), url) for label, url in report.links],
        "daily": report.daily,
    }


def period(start: datetime, end: datetime, timezone: str) -> str:
    """The period [start, end) as its days when it consists of whole days, else as its start and end times."""
    first, after = start.astimezone(zone(timezone)), end.astimezone(zone(timezone))
    named = zone_name(first)
    midnight = all((at.hour, at.minute, at.second, at.microsecond) == (0, 0, 0, 0) for at in (first, after))
    if not midnight:
        return f"{short_day(first)}, {first:%H:%M} – {short_day(after)}, {after:%H:%M}, {named}"
    last = after - timedelta(days=1)
    days = short_day(first) if last.date() == first.date() else f"{short_day(first)} – {short_day(last)}"
    return f"{days}, {named}"


def size(bytes_: int) -> str:
    """ "840 bytes", "12 KB", "3.4 MB"."""
    if bytes_ < 1000:
        return f"{bytes_} bytes"
    return f"{bytes_ / 1000:.0f} KB" if bytes_ < 1_000_000 else f"{bytes_ / 1_000_000:.1f} MB"

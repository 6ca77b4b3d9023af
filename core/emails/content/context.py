"""What the templates can say: the facts as one person reads them, in their zone, and nothing hostile in a name."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from core.emails.addresses import default_sender, one_line, reachable, safe_name
from core.emails.content.facts import SessionDetails, of_party
from core.emails.content.times import When, length, moment, short_day, short_moment, zone, zone_name
from core.emails.draft import Attachment, Recipient
from core.settings import settings


@dataclass(frozen=True, slots=True)
class ReportNotice:
    """A report to tell of: ready, with its files or where to get them, or failed, with the reason.

    Its period is [``start``, ``end``). ``links`` are what is not attached: what to write on it, and where it opens.
    """

    title: str
    start: datetime | None = None
    end: datetime | None = None
    data_as_of: datetime | None = None
    files: tuple[Attachment, ...] = ()
    links: tuple[tuple[str, str], ...] = ()
    daily: bool = False
    problem: str | None = None


def brand() -> str:
    """The name that heads and signs every mail: that of ``MAIL_FROM``."""
    return default_sender().name or "Greenroom"


def session_url(about: SessionDetails) -> str:
    """Where the session opens for who may see it: ``SESSION_URL``, or the board."""
    return settings().session_page(about.session_id)


def session_view(
    about: SessionDetails, recipient: Recipient, *, now: datetime, previous_start: datetime | None, reason: str | None
) -> dict[str, Any]:
    """The words of a mail about a session."""
    party = of_party(about, recipient)
    candidate = safe_name(about.candidate.name or "") or "the candidate"
    position, title = one_line(about.position), one_line(about.title)
    start, end, zone_ = about.scheduled_start, about.scheduled_end, recipient.timezone
    when = When.of(start, end, zone_) if start and end else None
    was = When.of(previous_start, previous_start, zone_) if previous_start else None
    recruiter = safe_name(about.recruiter.name) if about.recruiter and not about.recruiter.gone else None
    deadline = (about.ended_at or now) + timedelta(hours=about.feedback_deadline_hours)
    own = party == "candidate"
    return {
        "brand": brand(),
        "to": one_line(recipient.name or "", 150) or None,
        "hello": f"Hello {safe_name(recipient.name)}," if recipient.name else "Hello,",
        "party": party,
        "own": own,
        "candidate": candidate,
        "interviewer": safe_name(about.interviewer.name or "") if about.interviewer else None,
        "recruiter": recruiter,
        "helper": recruiter or "we",
        "answers": reachable(about.reply_to) is not None,
        "position": position,
        "title": title,
        "when": when,
        "was": was,
        "moved": was is None or when is None or was.start != when.start,
        "relative": when.relative(now) if when else None,
        "open_until": When.of(about.invitation_expires_at, about.invitation_expires_at, zone_)
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
        "facts": _labelled_facts(
            about, when, own=own, title=title, position=position, candidate=candidate, helper=recruiter
        ),
        "summary": f"Interview: {position}" if own else f"Interview with {candidate}: {position}",
        "purpose": f"Your interview for the position of {position}."
        if own
        else f"You interview {candidate} for the position of {position}.",
    }


def _labelled_facts(
    about: SessionDetails,
    when: When | None,
    *,
    own: bool,
    title: str,
    position: str,
    candidate: str,
    helper: str | None,
) -> list[tuple[str, str]]:
    """What stands below the time, as label and value."""
    facts = [] if own else [("Candidate", candidate)]
    facts.append(("Position", position))
    if title != position:
        facts.append(("Interview", title))
    facts.append(("Length", length(about.duration_minutes)))
    if own:
        facts.append(("With", safe_name(about.interviewer.name or "") if about.interviewer else "Our AI interviewer"))
    elif when is not None and (theirs := when.same_time(about.candidate.timezone)):
        day = "" if theirs.start.date() == when.start.date() else f"{theirs.short_day}, "
        facts.append(("Their time", f"{day}{theirs.hours} {theirs.zone}"))
    if not own and helper:
        facts.append(("Recruiter", helper))
    return facts


def report_view(report: ReportNotice, recipient: Recipient, *, now: datetime) -> dict[str, Any]:
    """The words of a mail about a report; its period is told in the platform's zone, in which it was drawn."""
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
        "hello": f"Hello {safe_name(recipient.name)}," if recipient.name else "Hello,",
        "title": title,
        "facts": facts,
        "period": facts[0][1] if report.start and report.end else None,
        "made": When.of(now, now, recipient.timezone),
        "problem": one_line(report.problem, 500) if report.problem else None,
        "attached": bool(report.files),
        "links": [(one_line(label, 60), url) for label, url in report.links],
        "daily": report.daily,
    }


def period(start: datetime, end: datetime, timezone: str) -> str:
    """The period [start, end) by its days where it is made of whole ones, else by its moments."""
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

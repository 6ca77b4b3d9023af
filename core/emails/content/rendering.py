"""Each kind of mail, rendered for one recipient in their own zone."""

import re
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from jinja2.utils import urlize
from markupsafe import Markup

from core.emails.addresses import envelope, message_host, one_line, reachable
from core.emails.content.context import ReportNotice, brand, report_view, session_view
from core.emails.content.facts import SessionDetails
from core.emails.content.ics import calendar
from core.emails.draft import Attachment, Draft, Recipient
from core.emails.kinds import KINDS, EmailKind
from core.emails.unsubscribe import link
from core.settings import settings

_TEMPLATES = Path(__file__).parents[2] / "templates" / "mail"
_GAPS = re.compile(r"\n{3,}")


def render(
    kind: EmailKind,
    about: SessionDetails,
    recipient: Recipient,
    *,
    now: datetime,
    previous_start: datetime | None = None,
    reason: str | None = None,
) -> Draft:
    """A mail about a session to its candidate or its interviewer; to an interviewer who was replaced, a farewell.

    ``previous_start`` goes with a reschedule; ``reason`` is shown as it was given. Raises Invalid when the recipient's
    address is none; that of anybody else is left out.
    """
    envelope(recipient.address)
    view = session_view(about, recipient, now=now, previous_start=previous_start, reason=reason)
    if view["party"] == "former":
        kind = "cancellation"
    category = KINDS[kind].category or ("scheduled" if about.scheduled_start else "invited")
    headers = _thread(about)
    view["unsubscribe"] = _unsubscribe(headers, recipient.address, category) if kind == "completion" else None
    subject, text, html = _rendered(kind, view)
    attached: Attachment | None = None
    if method := KINDS[kind].calendar:
        attached = calendar(
            method,
            about,
            recipient,
            summary=view["summary"],
            description=f"{view['purpose']}\n\n{view['url']}",
            url=view["url"],
            now=now,
        )
    return Draft(
        kind=kind,
        to_address=recipient.address,
        to_name=view["to"],
        reply_to=reachable(about.reply_to),
        subject=subject,
        text=text,
        html=html,
        category=category,
        headers=headers,
        attachments=(attached,) if attached else (),
    )


def render_report(report: ReportNotice, recipient: Recipient, *, now: datetime) -> Draft:
    """The mail that tells of a report, with the link that ends such mails.

    Raises Invalid when the recipient's address is none.
    """
    envelope(recipient.address)
    category = "daily_report" if report.daily else "report_ready"
    headers: dict[str, str] = {}
    view = report_view(report, recipient, now=now)
    view["unsubscribe"] = _unsubscribe(headers, recipient.address, category)
    subject, text, html = _rendered("report", view)
    return Draft(
        kind="report",
        to_address=recipient.address,
        to_name=view["to"],
        reply_to=None,
        subject=subject,
        text=text,
        html=html,
        category=category,
        headers=headers,
        attachments=report.files,
    )


def render_generic(
    recipient: Recipient,
    *,
    subject: str,
    text: str,
    html: str | None = None,
    reply_to: str | None = None,
    attachments: tuple[Attachment, ...] = (),
) -> Draft:
    """A mail that somebody wrote: their text in our layout, or beside it their HTML as they gave it.

    Raises Invalid for an address that is none.
    """
    envelope(recipient.address)
    line = one_line(subject, 300)
    if html is None:
        paragraphs = [part.strip("\n") for part in re.split(r"\n\s*\n", text.replace("\r\n", "\n")) if part.strip()]
        view = {"brand": brand(), "headline": line, "paragraphs": paragraphs, "unsubscribe": None}
        html = _html("generic/mail.html").render(view)
    return Draft(
        kind="generic",
        to_address=recipient.address,
        to_name=one_line(recipient.name or "", 150) or None,
        reply_to=reachable(reply_to),
        subject=line,
        text=text,
        html=html,
        category="generic",
        attachments=attachments,
    )


def _rendered(kind: EmailKind, view: dict[str, Any]) -> tuple[str, str, str]:
    """Subject, text and HTML."""
    subject = one_line(_plain(f"{kind}/subject.txt").render(view), 300)
    text = _GAPS.sub("\n\n", _plain(f"{kind}/mail.txt").render(view)).strip() + "\n"
    return subject, text, _html(f"{kind}/mail.html").render(view)


def _thread(about: SessionDetails) -> dict[str, str]:
    """What makes mail programs show all mails about one session together."""
    root = f"<session.{about.session_id}@{message_host(settings().public_url)}>"
    return {"In-Reply-To": root, "References": root}


def _unsubscribe(headers: dict[str, str], address: str, category: str) -> str | None:
    """The link that ends mails of this category, and the headers with which a mail program offers it (RFC 8058)."""
    made = link(address, category)
    if made is not None:
        headers |= {"List-Unsubscribe": f"<{made}>", "List-Unsubscribe-Post": "List-Unsubscribe=One-Click"}
    return made


def _environment(*, escape: bool) -> Environment:
    # Two, and not one that goes by a file's ending: the sentences are shared by text and HTML, and in HTML
    # whatever a template includes or imports must be escaped.
    made = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=escape,  # noqa: S701 - off for subjects and plain text alone
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    made.filters["linked"] = _linked
    return made


@lru_cache(maxsize=1)
def _environments() -> tuple[Environment, Environment]:
    return _environment(escape=False), _environment(escape=True)


def _plain(name: str) -> Template:
    return _environments()[0].get_template(name)


def _html(name: str) -> Template:
    return _environments()[1].get_template(name)


def _linked(text: str, style: str) -> Markup:
    """The text, escaped, with its line breaks, and its web addresses as links."""
    linked = urlize(text, rel="noopener")  # escapes what it is given
    return Markup(linked.replace("<a ", f'<a class="a" style="{style}" ').replace("\n", "<br>\n"))  # noqa: S704

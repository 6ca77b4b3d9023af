"""Renders each kind of mail for one recipient, in their zone."""

import re
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from jinja2.utils import urlize
from markupsafe import Markup

from core.emails.addresses import envelope, message_host, one_line, valid_address
from core.emails.content.context import ReportNotice, brand, report_view, session_view
from core.emails.content.ics import calendar
from core.emails.content.session_details import SessionDetails
from core.emails.draft import Attachment, Draft, Recipient
from core.emails.kinds import KINDS, EmailKind
from core.emails.unsubscribe import build_link
from core.preferences import OPTIONAL_MAILS
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
    """A mail about a session to its candidate or interviewer; to a replaced interviewer, the removal notice.

    ``previous_start`` is for a reschedule; ``reason`` is shown unchanged. Raises Invalid when the recipient's address
    is not valid; other people's invalid addresses are left out.
    """
    envelope(recipient.address)
    view = session_view(about, recipient, now=now, previous_start=previous_start, reason=reason)
    if view["party"] == "former":
        kind = "cancellation"
    category = KINDS[kind].category or ("scheduled" if about.scheduled_start else "invited")
    headers = _thread(about)
    optional = category in OPTIONAL_MAILS
    view["unsubscribe"] = _unsubscribe(headers, recipient.address, category) if optional else None
    subject, text, html = _render_parts(kind, view)
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
        reply_to=valid_address(about.reply_to),
        subject=subject,
        text=text,
        html=html,
        category=category,
        headers=headers,
        attachments=(attached,) if attached else (),
    )


def render_report(report: ReportNotice, recipient: Recipient, *, now: datetime) -> Draft:
    """The mail about a report, with an unsubscribe link.

    Raises Invalid when the recipient's address is not valid.
    """
    envelope(recipient.address)
    category = report.category
    headers: dict[str, str] = {}
    view = report_view(report, recipient, now=now)
    view["unsubscribe"] = _unsubscribe(headers, recipient.address, category)
    subject, text, html = _render_parts("report", view)
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
    """A mail with a text that somebody wrote: as HTML in our layout, unless they gave HTML, which stays unchanged.

    Raises Invalid when the recipient's address is not valid.
    """
    envelope(recipient.address)
    line = one_line(subject, 300)
    if html is None:
        paragraphs = [part.strip("\n") for part in re.split(r"\n\s*\n", text.replace("\r\n", "\n")) if part.strip()]
        view = {"brand": brand(), "headline": line, "paragraphs": paragraphs, "unsubscribe": None}
        html = _html_template("generic/mail.html").render(view)
    return Draft(
        kind="generic",
        to_address=recipient.address,
        to_name=one_line(recipient.name or "", 150) or None,
        reply_to=valid_address(reply_to),
        subject=line,
        text=text,
        html=html,
        category="generic",
        attachments=attachments,
    )


def _render_parts(kind: EmailKind, view: dict[str, Any]) -> tuple[str, str, str]:
    """Subject, text and HTML."""
    subject = one_line(_text_template(f"{kind}/subject.txt").render(view), 300)
    text = _GAPS.sub("\n\n", _text_template(f"{kind}/mail.txt").render(view)).strip() + "\n"
    return subject, text, _html_template(f"{kind}/mail.html").render(view)


def _thread(about: SessionDetails) -> dict[str, str]:
    """The headers by which mail programs show all mails about one session as one thread."""
    root = f"<session.{about.session_id}@{message_host(settings().public_url)}>"
    return {"In-Reply-To": root, "References": root}


def _unsubscribe(headers: dict[str, str], address: str, category: str) -> str | None:
    """The unsubscribe link for this category; adds the headers with which mail programs offer it (RFC 8058)."""
    url = build_link(address, category)
    if url is not None:
        headers |= {"List-Unsubscribe": f"<{url}>", "List-Unsubscribe-Post": "List-Unsubscribe=One-Click"}
    return url


def _environment(*, escape: bool) -> Environment:
    # Two environments, not one that escapes by file name: text and HTML share the sentences, and in HTML everything
    # that a template includes or imports must be escaped.
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=escape,  # noqa: S701 - off for subjects and plain text alone
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.filters["linked"] = _link_urls
    return environment


@lru_cache(maxsize=1)
def _environments() -> tuple[Environment, Environment]:
    return _environment(escape=False), _environment(escape=True)


def _text_template(name: str) -> Template:
    return _environments()[0].get_template(name)


def _html_template(name: str) -> Template:
    return _environments()[1].get_template(name)


def _link_urls(text: str, style: str) -> Markup:
    """The text as HTML: escaped, with its line breaks, and with web addresses as links."""
    linked = urlize(text, rel="noopener")  # escapes what it is given
    return Markup(linked.replace("<a ", f'<a class="a" style="{style}" ').replace("\n", "<br>\n"))  # noqa: S704

"""What mails say: the facts of many sessions in one query, and each kind of mail rendered from them."""

from core.emails.content.context import ReportNotice
from core.emails.content.facts import About, Person, about
from core.emails.content.rendering import SessionKind, render, render_generic, render_report

__all__ = ["About", "Person", "ReportNotice", "SessionKind", "about", "render", "render_generic", "render_report"]

"""What mails say: the facts of many sessions in one query, and each kind of mail rendered from them."""

from core.emails.content.context import ReportNotice
from core.emails.content.facts import Recruiter, SessionDetails, session_details
from core.emails.content.rendering import render, render_generic, render_report

__all__ = [
    "Recruiter",
    "ReportNotice",
    "SessionDetails",
    "render",
    "render_generic",
    "render_report",
    "session_details",
]

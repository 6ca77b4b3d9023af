"""The contents of mails: details of many sessions by one query, and each kind of mail rendered from them."""

from core.emails.content.context import ReportNotice
from core.emails.content.rendering import render, render_generic, render_report
from core.emails.content.session_details import Recruiter, SessionDetails, session_details

__all__ = [
    "Recruiter",
    "ReportNotice",
    "SessionDetails",
    "render",
    "render_generic",
    "render_report",
    "session_details",
]

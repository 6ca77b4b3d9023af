"""The page that a mail's link to a report opens: it asks for a token, keeps it out of URLs, and fetches the file."""

import re
from uuid import UUID

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

from api.board.cards import HEADERS, STYLE, TEMPLATES, content_security_policy, hash_source

router = APIRouter(include_in_schema=False)

_WRITTEN = (TEMPLATES / "report.html").read_text(encoding="utf-8")
_PAGE = _WRITTEN.replace("<style></style>", f"<style>{STYLE}</style>")
[_SCRIPT] = re.findall("<script>(.*?)</script>", _PAGE, re.DOTALL)
_HEADERS = HEADERS | {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": content_security_policy(
        script_src=hash_source(_SCRIPT), style_src=hash_source(STYLE), connect_src="'self'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
}


@router.get("/reports/{report_id}", response_class=HTMLResponse)
def open_report(report_id: UUID) -> HTMLResponse:
    """The same page for every report, existing or not: its script fetches the report with a token."""
    return HTMLResponse(_PAGE, headers=_HEADERS)

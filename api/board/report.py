"""The page that a mail's link to a report opens: it asks for a token, keeps it out of addresses, fetches the file."""

import base64
import hashlib
import re
from pathlib import Path
from uuid import UUID

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

router = APIRouter(include_in_schema=False)

_PAGE = (Path(__file__).parent / "templates" / "report.html").read_text(encoding="utf-8")


def _hash(tag: str) -> str:
    """What lets the page's own block of this kind work, and no other (CSP 3, section 6.7.3)."""
    [block] = re.findall(f"<{tag}>(.*?)</{tag}>", _PAGE, re.DOTALL)
    return f"'sha256-{base64.b64encode(hashlib.sha256(block.encode()).digest()).decode()}'"


_HEADERS = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": (
        f"default-src 'none'; script-src {_hash('script')}; style-src {_hash('style')}; connect-src 'self'; "
        "form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Robots-Tag": "noindex, nofollow",
}


@router.get("/reports/{report_id}", response_class=HTMLResponse)
def open_report(report_id: UUID) -> HTMLResponse:
    """The same page for every report, there or not: what it may show it has to ask for with a token."""
    return HTMLResponse(_PAGE, headers=_HEADERS)

"""Unsubscribing by the link in a mail (RFC 8058): GET shows a page with a button, POST does it."""

from html import escape
from string import Template

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

from api.board.cards import HEADERS, STYLE, content_security_policy, hash_source
from api.deps import Db
from core.clock import utcnow
from core.emails import unsubscribe as email_unsubscribe
from core.emails.unsubscribe import InvalidLink, MailSubscription

router = APIRouter(prefix="/unsubscribe", tags=["unsubscribing"], default_response_class=HTMLResponse)

_HEADERS = HEADERS | {
    "Cache-Control": "no-store",  # the signed link is a key
    "Content-Security-Policy": content_security_policy(style_src=hash_source(STYLE), form_action="'self'"),
}

_PAGE = Template("""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark"><title>$title</title><style>$style</style></head>
<body><main><h1>$title</h1><p>$text</p>$more</main></body></html>
""")

_BUTTON = (
    '<form method="post"><input type="hidden" name="List-Unsubscribe" value="One-Click">'
    '<button type="submit">Unsubscribe</button></form>'
)


def _page(title: str, text: str, more: str = "", status: int = 200) -> HTMLResponse:
    page = _PAGE.substitute(title=escape(title), text=escape(text), more=more, style=STYLE)
    return HTMLResponse(page, status, _HEADERS)


def _describe(subscription: MailSubscription) -> str:
    return f"{email_unsubscribe.describe(subscription.category)} to {subscription.address}"


def _invalid_link() -> HTMLResponse:
    text = "It may have been cut short on its way. Please open the link in the mail again, whole."
    return _page("This link does not work", text, status=404)


@router.get("/{signed}")
def show_confirmation(signed: str) -> HTMLResponse:
    """What the link unsubscribes from, and a button that does it; changes nothing."""
    try:
        subscription = email_unsubscribe.verify_link(signed)
    except InvalidLink:
        return _invalid_link()
    return _page("Unsubscribe?", f"You will get no more {_describe(subscription)}.", _BUTTON)


@router.post("/{signed}")
def unsubscribe(signed: str, db: Db) -> HTMLResponse:
    """Unsubscribe, whatever the body says: the link authorises it (RFC 8058, section 3.2)."""
    try:
        subscription = email_unsubscribe.unsubscribe(db, signed, now=utcnow())
    except InvalidLink:
        return _invalid_link()
    return _page("You are unsubscribed", f"There will be no more {_describe(subscription)}.")

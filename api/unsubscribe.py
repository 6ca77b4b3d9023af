"""Unsubscribing by the link in a mail (RFC 8058): GET shows a page with a button, POST does it."""

from html import escape
from string import Template

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

from api.deps import Db
from core.clock import utcnow
from core.emails import unsubscribing
from core.emails.unsubscribing import NotALink, Subscription

router = APIRouter(prefix="/unsubscribe", tags=["unsubscribing"], default_response_class=HTMLResponse)

_HEADERS = {
    # The address is a key: it must not be kept, framed, indexed, or named to another site.
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Robots-Tag": "noindex, nofollow",
}

_PAGE = Template("""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark"><title>$title</title><style>
:root { --back: #f4f5f7; --card: #fff; --ink: #1c2430; --soft: #5b6675; --button: #1f5fbf; --edge: #dfe3e8 }
@media (prefers-color-scheme: dark) {
  :root { --back: #14181f; --card: #1e242d; --ink: #eef1f5; --soft: #a5b0be; --button: #3b7de0; --edge: #333c48 }
}
body { margin: 0; min-height: 100vh; display: grid; place-items: center; background: var(--back); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif }
main { box-sizing: border-box; width: min(28rem, 100vw - 2rem); margin: 1rem; padding: 2rem; background: var(--card);
  border: 1px solid var(--edge); border-radius: 12px; overflow-wrap: anywhere }
h1 { margin: 0 0 .5rem; font-size: 1.25rem; line-height: 1.3 }
p { margin: 0; color: var(--soft) }
form { margin: 1.5rem 0 0 }
button { width: 100%; padding: .75rem 1rem; border: 0; border-radius: 8px; background: var(--button); color: #fff;
  font: inherit; font-weight: 600; cursor: pointer }
button:focus-visible { outline: 3px solid var(--ink); outline-offset: 2px }
</style></head><body><main><h1>$title</h1><p>$text</p>$more</main></body></html>
""")

_BUTTON = (
    '<form method="post"><input type="hidden" name="List-Unsubscribe" value="One-Click">'
    '<button type="submit">Unsubscribe</button></form>'
)


def _page(title: str, text: str, more: str = "", status: int = 200) -> HTMLResponse:
    page = _PAGE.substitute(title=escape(title), text=escape(text), more=more)
    return HTMLResponse(page, status, _HEADERS)


def _what(ended: Subscription) -> str:
    return f"{unsubscribing.words(ended.category)} to {ended.address}"


def _no_link() -> HTMLResponse:
    text = "It may have been cut short on its way. Please open the link in the mail again, whole."
    return _page("This link does not work", text, status=404)


@router.get("/{signed}")
def ask(signed: str) -> HTMLResponse:
    """What the link would end, and a button that does; changes nothing."""
    try:
        ended = unsubscribing.read(signed)
    except NotALink:
        return _no_link()
    return _page("Unsubscribe?", f"You will get no more {_what(ended)}.", _BUTTON)


@router.post("/{signed}")
def unsubscribe(signed: str, db: Db) -> HTMLResponse:
    """End it, whatever the body says: the link is the proof (RFC 8058, section 3.2)."""
    try:
        ended = unsubscribing.unsubscribe(db, signed, now=utcnow())
    except NotALink:
        return _no_link()
    return _page("You are unsubscribed", f"There will be no more {_what(ended)}.")

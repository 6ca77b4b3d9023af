"""The local stack's captured mails as a mail program shows them; no scripts, since their content is not trusted."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal
from urllib.parse import quote

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import HTMLResponse, Response
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from api.board import captured_mails as captured
from api.board.cards import TEMPLATES, content_security_policy, hash_source
from api.local import is_loopback, names_this_host
from core.errors import NotFound
from core.settings import Settings, settings

router = APIRouter(prefix="/mail", include_in_schema=False, default_response_class=HTMLResponse)

_pages = Environment(
    loader=PackageLoader("api.board"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
)
# Not escaped, since it is our own; by its hash the policy allows it, and no style that a mail contains.
_STYLE: Final = (TEMPLATES / "mail.css").read_text()
_COMMON_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_PAGE_POLICY: Final = content_security_policy(style_src=hash_source(_STYLE), frame_src="'self'")
# A sandboxed frame has no origin, no scripts, no forms and no access to the page around it; a link that a person clicks
# opens in a new tab.
SANDBOX: Final = "allow-popups allow-popups-to-escape-sandbox"
_MAIL_POLICY: Final = (
    f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; form-action 'none'; base-uri 'none'; "
    f"frame-ancestors 'self'; sandbox {SANDBOX}"
)
_LINKS_IN_NEW_TAB: Final = '\n<base target="_blank">'
"""Appended to the mail, so that its doctype stays first: links open in a new tab."""

View = Literal["html", "text", "calendar", "source"]


def _folder(request: Request) -> Path:
    config: Settings = settings()
    if config.captured_mail is None or not is_loopback(request) or not names_this_host(request, config.public_url):
        raise NotFound("page", request.url.path)
    return config.captured_mail


Folder = Annotated[Path, Depends(_folder)]


@router.get("")
def inbox(folder: Folder, before: Annotated[str | None, Query(max_length=100)] = None) -> HTMLResponse:
    """The newest captured mails."""
    mails, older = captured.newest(folder, before=before)
    return _page("list.html", title="Captured mail", mails=mails, older=older, first=before is None)


@router.get("/{name}")
def show(folder: Folder, name: str, view: View | None = None) -> HTMLResponse:
    """One mail: its headers, and its body in the chosen view; absent: the first it has, in the order of ``View``."""
    try:
        mail = captured.read(folder, name)
    except captured.MailNotFound:
        return _mail_not_found()
    views: dict[View, str | None] = {
        "html": mail.html,
        "text": mail.text,
        "calendar": mail.calendar,
        "source": _source(mail),
    }
    there = [each for each, content in views.items() if content is not None]
    chosen = view if view in there else there[0]
    main = {"from", "to", "cc", "reply-to", "date"}
    return _page(
        "mail.html",
        title=mail.envelope.subject or "(no subject)",
        mail=mail,
        main=[header for header in mail.headers if header[0].lower() in main],
        more=[header for header in mail.headers if header[0].lower() not in main],
        views=there,
        view=chosen,
        content=views[chosen],
        sandbox=SANDBOX,
    )


@router.get("/{name}/html")
def body(folder: Folder, name: str) -> Response:
    """The HTML as the mail has it, served for a sandboxed frame only."""
    try:
        html = captured.read(folder, name).html
    except captured.MailNotFound:
        html = None
    return _mail_not_found() if html is None else _answer(html + _LINKS_IN_NEW_TAB, _MAIL_POLICY)


@router.get("/{name}/source")
def source(folder: Folder, name: str) -> Response:
    """The file as it was captured."""
    try:
        return _download(name, captured.read(folder, name).source)
    except captured.MailNotFound:
        return _mail_not_found()


@router.get("/{name}/files/{number}")
def attachment(folder: Folder, name: str, number: int) -> Response:
    """An attachment, as a download and never displayed, whatever type it claims."""
    try:
        files = captured.read(folder, name).files
    except captured.MailNotFound:
        return _mail_not_found()
    return _download(files[number].name, files[number].content) if 0 <= number < len(files) else _mail_not_found()


def _source(mail: captured.CapturedMail) -> str:
    shown = mail.source[: captured.SHOWN].decode(errors="replace").replace("\r\n", "\n").replace("\x00", "\ufffd")
    return shown if len(mail.source) <= captured.SHOWN else f"{shown}\n… cut here: the file has all of it"


def _page(template: str, status: int = 200, **facts: Any) -> HTMLResponse:
    html = _pages.get_template(template).render(style=Markup(_STYLE), **facts)  # noqa: S704 - our own file
    return _answer(html, _PAGE_POLICY, status)


def _mail_not_found() -> HTMLResponse:
    return _page("not_found.html", 404, title="This mail is not here")


def _answer(html: str, policy: str, status: int = 200) -> HTMLResponse:
    # UTF-8 cannot encode a lone surrogate, which a mail may contain
    content = html.encode(errors="replace")
    return HTMLResponse(content, status, {**_COMMON_HEADERS, "Content-Security-Policy": policy})


def _download(name: str, content: bytes) -> Response:
    return Response(content, headers=_headers(name), media_type="application/octet-stream")


def _headers(name: str) -> Mapping[str, str]:
    # RFC 6266: an ASCII name for old clients, the real one in UTF-8
    plain = "".join(c if c.isascii() and c.isprintable() and c not in '"\\%' else "_" for c in name)
    whole = quote(name.encode(errors="replace"), safe="")
    saved = f"attachment; filename=\"{plain}\"; filename*=UTF-8''{whole}"
    return {**_COMMON_HEADERS, "Content-Disposition": saved, "Content-Security-Policy": "default-src 'none'; sandbox"}

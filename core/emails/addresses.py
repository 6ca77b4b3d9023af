"""Addresses and header lines safe for a mail: no injected lines, no hidden or reordered text, all scripts allowed."""

import re
import unicodedata
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import urlsplit

import idna

from core.errors import Invalid
from core.settings import settings

_BREAKS = re.compile(r"[\s\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+")
_HIDDEN = re.compile(r"[\u200b\u202a-\u202e\u2060\u2066-\u2069\ufeff]")
"""Characters that reorder or hide text; joiners and direction marks stay, since names and emoji need them."""
_LINKED = re.compile(r"(?<=\w)\.(?=\w\w)|(?<=:)/|(?<=\w)@(?=\w)")
_RIGHT_TO_LEFT = re.compile(r"[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]")
_DOT_ATOM = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*", re.ASCII)
_NOT_IN_LOCAL_PART = re.compile(r"[\s\x00-\x20\x7f-\x9f\u200b\u202a-\u202e\u2060\u2066-\u2069\ufeff\ud800-\udfff@]")
_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,253}[A-Za-z0-9])?", re.ASCII)
_NAMED = re.compile(r"(?P<name>.*?)\s*<(?P<address>[^<>]+)>\s*")


class EnvelopeAddress(NamedTuple):
    """An address in the form for SMTP; ``smtputf8``: the server must support that extension (RFC 6531)."""

    address: str
    smtputf8: bool


class FromAddress(NamedTuple):
    """Who mails are from; ``address`` in the form for SMTP's MAIL, ``name`` also signs the mails."""

    name: str
    address: str


def one_line(value: str, limit: int = 200) -> str:
    """The text as one line without control, hidden and reordering characters, at most ``limit`` characters."""
    line = _HIDDEN.sub("", _BREAKS.sub(" ", value)).strip()
    return line if len(line) <= limit else line[: limit - 1].rstrip() + "…"


def safe_name(value: str) -> str:
    """A person's name for a mail: one line, with nothing that a mail program would turn into a link."""
    line = one_line(value, 100)
    # names are chosen by strangers; a word joiner is invisible and prevents linking
    line = _LINKED.sub(lambda found: found[0] + "\u2060", line)
    # in isolating marks, so that right-to-left text does not reorder digits after it, such as a time's
    return f"\u2068{line}\u2069" if _RIGHT_TO_LEFT.search(line) else line


@lru_cache(maxsize=4096)
def envelope(address: str) -> EnvelopeAddress:
    """The address for SMTP and headers: the domain in ASCII (IDNA 2008), an odd local part quoted.

    Raises Invalid when it is not an address.
    """
    local, at, domain = address.strip().rpartition("@")
    local = unicodedata.normalize("NFC", local)
    if not at or not local or _NOT_IN_LOCAL_PART.search(local) or len(local.encode()) > 64:
        raise Invalid("address", "is no email address")
    wide = not local.isascii()
    if not wide and not _DOT_ATOM.fullmatch(local):
        local = '"' + local.replace("\\", "\\\\").replace('"', '\\"') + '"'
    elif wide and re.search(r'[<>()\[\],;:\\"]', local):
        raise Invalid("address", "is no email address")
    return EnvelopeAddress(f"{local}@{ascii_host(domain)}", wide)


def valid_address(address: str | None) -> str | None:
    """The address if it is valid, else None."""
    try:
        return address if address and envelope(address) else None
    except Invalid:
        return None


@lru_cache(maxsize=1024)
def ascii_host(host: str) -> str:
    """A host name in ASCII (IDNA 2008). Raises Invalid when it is not valid."""
    try:
        plain = host if host.isascii() else idna.encode(host, uts46=True).decode()
    except (idna.IDNAError, UnicodeError):
        raise Invalid("address", "has a domain that is none") from None
    if not _HOST.fullmatch(plain) or ".." in plain:
        raise Invalid("address", "has a domain that is none")
    return plain


def default_sender() -> FromAddress:
    """Who this deployment's mails are from: ``MAIL_FROM``."""
    return sender(settings().mail_from)


@lru_cache(maxsize=8)
def sender(mail_from: str) -> FromAddress:
    """The parts of "Name <address>", or of an address alone. Raises Invalid."""
    found = _NAMED.fullmatch(mail_from)
    if found is None:
        return FromAddress("", envelope(mail_from).address)
    name = found["name"].strip()
    if len(name) > 1 and name[0] == name[-1] == '"':
        name = re.sub(r"\\(.)", r"\1", name[1:-1])
    return FromAddress(one_line(name), envelope(found["address"]).address)


@lru_cache(maxsize=8)
def message_host(public_url: str) -> str:
    """The host part of our Message-IDs: that of ``PUBLIC_URL``, in ASCII."""
    host = urlsplit(public_url).hostname or "localhost"
    return f"[{host}]" if ":" in host else ascii_host(host)

"""Builds the MIME message of a stored mail: the same bytes at every attempt."""

import re
from base64 import b64encode
from binascii import b2a_qp
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any, Protocol
from urllib.parse import quote
from uuid import UUID

from core.emails.addresses import FromAddress, default_sender, envelope, one_line

LINE = 76
"""Maximum characters of a line of a body or a folded header (RFC 2045, RFC 2047); SMTP's limit is 998."""

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)
_ATOMS = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~ -]*", re.ASCII)
_MESSAGE_ID = re.compile(r"<[!-;=?-~]+@[!-;=?-~]+>")
_TYPE = re.compile(r"([a-z0-9][a-z0-9.+-]{0,60})/([a-z0-9][a-z0-9.+-]{0,80})", re.ASCII)
_METHOD = re.compile(r";\s*method=\"?(REQUEST|CANCEL|PUBLISH|REPLY)\b", re.IGNORECASE)
_ACTED_ON = frozenset({"REQUEST", "CANCEL", "REPLY"})
_NO_TEXT = bytes({*range(32), 127} - {*b"\t\n\r"})
_RESERVED = frozenset(
    {
        *("from", "to", "cc", "bcc", "sender", "return-path", "subject", "date", "message-id", "reply-to"),
        *("mime-version", "content-type", "content-transfer-encoding", "content-disposition"),
        *("auto-submitted", "x-auto-response-suppress"),
    }
)
"""Headers, in lower case, that are written here or that a mail may not set."""


class RenderedMail(Protocol):
    """The columns read of a row of ``emails``; any object with these attributes will do."""

    @property
    def id(self) -> UUID: ...
    @property
    def to_address(self) -> str: ...
    @property
    def to_name(self) -> str | None: ...
    @property
    def reply_to(self) -> str | None: ...
    @property
    def message_id(self) -> str: ...
    @property
    def subject(self) -> str: ...
    @property
    def text_body(self) -> str | None: ...
    @property
    def html_body(self) -> str | None: ...
    @property
    def headers(self) -> Mapping[str, Any]: ...
    @property
    def created_at(self) -> datetime: ...


class RenderedFile(Protocol):
    """The columns read of a row of ``email_attachments``; a draft's attachment will do."""

    @property
    def filename(self) -> str: ...
    @property
    def content_type(self) -> str: ...
    @property
    def content(self) -> bytes: ...


def build(email: RenderedMail, attachments: Iterable[RenderedFile] = (), *, sender: FromAddress | None = None) -> bytes:
    """The message for SMTP's DATA, with CRLF; ``sender`` is ``default_sender()`` when absent.

    ASCII, except for an address with a non-ASCII local part: ``core.emails.addresses.envelope(address)`` gives the
    address for RCPT and says whether SMTPUTF8 is needed; ``default_sender().address`` is the one for MAIL. Raises
    Invalid for an invalid address, ValueError for an invalid header or Message-ID.
    """
    name, address = sender or default_sender()
    if not _MESSAGE_ID.fullmatch(email.message_id):
        raise ValueError(f"mail {email.id} has an invalid Message-ID")
    lines = [
        _header("From", _mailbox(name, address)),
        _header("To", _mailbox(email.to_name or "", envelope(email.to_address).address)),
        _header("Subject", unstructured(email.subject, len("Subject: "))),
        f"Date: {format_datetime(email.created_at.astimezone(UTC))}",
        f"Message-ID: {email.message_id}",
        "MIME-Version: 1.0",
        "Auto-Submitted: auto-generated",  # RFC 3834: no vacation replies; the next header means the same to Exchange
        "X-Auto-Response-Suppress: OOF, AutoReply",
    ]
    if email.reply_to:
        lines.append(_header("Reply-To", envelope(email.reply_to).address))
    for key, value in email.headers.items():
        if not _TOKEN.fullmatch(key) or key.lower() in _RESERVED:
            raise ValueError(f"mail {email.id} has an invalid or reserved header")
        lines.append(_header(key, unstructured(str(value), len(key) + 2)))
    part = _content(email, tuple(attachments))
    return "\r\n".join((*lines, *part.headers, "", "")).encode() + part.body


class _Part:
    """A MIME part: its Content- headers and its bytes."""

    __slots__ = ("body", "headers")

    def __init__(self, headers: tuple[str, ...], body: bytes) -> None:
        self.headers, self.body = headers, body

    def dump(self) -> bytes:
        return "\r\n".join((*self.headers, "", "")).encode() + self.body


def _content(email: RenderedMail, files: tuple[RenderedFile, ...]) -> _Part:
    alternatives = []
    if email.text_body is not None or email.html_body is None:
        alternatives.append(_text("plain", email.text_body or ""))
    if email.html_body is not None:
        alternatives.append(_text("html", email.html_body))
    # Outlook acts on an invitation only among the alternatives, other programs only as a file: so it is sent as both.
    for file in files:
        method = _calendar_method(file)
        if method in _ACTED_ON:
            alternatives.append(_calendar(file, method))
            break
    whole = alternatives[0] if len(alternatives) == 1 else _multipart("alternative", alternatives, f"{email.id.hex}a")
    if files:
        whole = _multipart("mixed", [whole, *(_attachment(file) for file in files)], f"{email.id.hex}m")
    return whole


def _multipart(kind: str, parts: list[_Part], boundary: str) -> _Part:
    # "=_" occurs in neither quoted-printable nor base64, so no body can contain the boundary
    delimiter = f"=_{boundary}"
    body = b"".join(f"--{delimiter}\r\n".encode() + part.dump() + b"\r\n" for part in parts)
    return _Part(
        (f'Content-Type: multipart/{kind};\r\n boundary="{delimiter}"',), body + f"--{delimiter}--\r\n".encode()
    )


def _text(subtype: str, text: str) -> _Part:
    encoding, body = _encoded(text)
    return _Part((f"Content-Type: text/{subtype}; charset=utf-8", f"Content-Transfer-Encoding: {encoding}"), body)


def _encoded(text: str) -> tuple[str, bytes]:
    """The transfer encoding, and the text in it: bytes that every server relays unchanged."""
    data = text.encode(errors="replace").replace(b"\r\n", b"\n").replace(b"\r", b"\n").translate(None, _NO_TEXT)
    # in a script other than Latin, base64 is shorter, and quoted-printable would be no easier to read
    if len(data) > 1.25 * len(text):
        return "base64", _base64(data.replace(b"\n", b"\r\n"))
    # b2a_qp takes the line break it adds from the text's first line, so all are changed to CRLF afterwards
    return "quoted-printable", b2a_qp(data, istext=True).replace(b"\n", b"\r\n")


def _base64(data: bytes) -> bytes:
    coded = b64encode(data)
    return b"\r\n".join([coded[at : at + LINE] for at in range(0, len(coded), LINE)])


def _calendar_method(file: RenderedFile) -> str | None:
    if not file.content_type.lower().startswith("text/calendar"):
        return None
    found = _METHOD.search(file.content_type)
    return found[1].upper() if found else None


def _calendar(file: RenderedFile, method: str) -> _Part:
    headers = f"Content-Type: text/calendar; charset=utf-8; method={method}", "Content-Transfer-Encoding: base64"
    return _Part(headers, _base64(file.content))


def _attachment(file: RenderedFile) -> _Part:
    name = filename(file.filename)
    # Some programs read ``name`` and some ``filename``, and each has its own encoding (RFC 2047, RFC 2231).
    name_parameter = name if name.isascii() else "\r\n ".join(_encoded_words(name))
    filename_parameter = f'filename="{name}"' if name.isascii() else f"filename*=UTF-8''{quote(name, safe='')}"
    headers = (
        f'Content-Type: {_type(file)};\r\n name="{name_parameter}"',
        f"Content-Disposition: attachment;\r\n {filename_parameter}",
        "Content-Transfer-Encoding: base64",
    )
    return _Part(headers, _base64(file.content))


def _type(file: RenderedFile) -> str:
    method = _calendar_method(file)
    if method:
        return "application/ics" if method in _ACTED_ON else f"text/calendar; charset=utf-8; method={method}"
    found = _TYPE.match(file.content_type.lower())
    if found is None or found[1] in ("multipart", "message"):
        return "application/octet-stream"
    return f"{found[0]}; charset=utf-8" if found[1] == "text" and _is_utf8(file.content) else found[0]


def _is_utf8(content: bytes) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True


_MAX_NAME_CHARS, _MAX_NAME_BYTES = 120, 255
"""Characters and bytes of a file name: the limit of file systems; three times the bytes fit SMTP's line limit."""


def filename(given: str) -> str:
    """A file name without a path, at most 120 characters, with its extension kept; "file" when nothing is left."""
    name = one_line(re.split(r"[/\\]", given)[-1], 1000).replace('"', "'").lstrip(".").strip()
    stem, dot, ending = name.rpartition(".")
    if not dot or len(ending) > 10:
        stem, dot, ending = name, "", ""
    ending = dot + ending
    kept = stem[: _MAX_NAME_CHARS - len(ending)].encode()[: _MAX_NAME_BYTES - len(ending.encode())]
    return (kept.decode(errors="ignore") + ending).strip() or "file"


def unstructured(value: str, used: int = 0) -> str:
    """A header's text, folded, in encoded words (RFC 2047) where it is not ASCII, after ``used`` columns."""
    line = one_line(value, 2000)
    if line.isascii() and "=?" not in line and all(len(word) <= 900 for word in line.split(" ")):
        return _fold(line.split(" "), used)
    return _fold(list(_encoded_words(line)), used)


def _mailbox(name: str, address: str) -> str:
    """A display name with its address; ``address`` is from an EnvelopeAddress or a FromAddress."""
    line = one_line(name, 150)
    if not line:
        return address
    if not line.isascii() or "=?" in line or len(line) > 60:
        words = list(_encoded_words(line))
    elif _ATOMS.fullmatch(line):
        words = [line]
    else:
        words = ['"' + line.replace("\\", "\\\\").replace('"', '\\"') + '"']
    return _fold([*words, f"<{address}>"], len("Reply-To: "))


def _encoded_words(line: str) -> Iterator[str]:
    """The text as encoded words of up to 60 characters, split between characters; spaces between words do not count."""
    chunk = b""
    for character in line:
        coded = character.encode(errors="replace")
        if len(chunk) + len(coded) > 36:
            yield f"=?utf-8?b?{b64encode(chunk).decode()}?="
            chunk = b""
        chunk += coded
    if chunk:
        yield f"=?utf-8?b?{b64encode(chunk).decode()}?="


def _fold(words: list[str], used: int) -> str:
    lines, line = [], ""
    for word in words:
        if line and used + len(line) + 1 + len(word) > LINE:
            lines.append(line)
            line, used = word, 1
        else:
            line = f"{line} {word}" if line else word
    return "\r\n ".join((*lines, line))


def _header(name: str, value: str) -> str:
    return f"{name}: {value}"

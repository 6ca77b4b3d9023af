"""Captured mails, read from their files. Anybody may have written them, so nothing in them is trusted."""

import codecs
import os
import re
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email import message_from_bytes
from email.header import decode_header
from email.message import Message
from email.parser import BytesHeaderParser
from itertools import islice
from pathlib import Path
from typing import cast

from core.emails.addresses import one_line
from core.emails.mime import filename

LARGEST = 32 * 1024 * 1024
"""Bytes of a mail that is parsed; of a larger one only the headers are shown, and its source can be downloaded."""
HEAD = 64 * 1024
"""Bytes in which the headers have to be."""
CONTAINERS = 100
"""Nested parts; a mail that has more was made to make parsing expensive."""
COST = 10_000_000
"""Nested parts times lines, since the parser reads each line once for each part around it: a second or so."""
SHOWN = 1_000_000
"""Characters of a text that are shown."""

_NAME = re.compile(r"(\d{8}T\d{6}\.\d{6})Z-\d{4,9}\.eml", re.ASCII)
"""As deployments.local.capture names them, which sorts them by time: nothing else in the folder is a mail."""
_CONTAINER = re.compile(rb"multipart/|message/", re.IGNORECASE)
_COSTLY = frozenset({"idna", "punycode", "undefined"})
"""Charsets of Python's own that no mail has, and that take the square of the text's length, or nothing."""


class MailNotFound(Exception):
    """There is no such mail."""


@dataclass(frozen=True, slots=True)
class CapturedEnvelope:
    """What a list shows of a mail; ``sender`` and ``recipients`` are those of the SMTP envelope."""

    name: str
    captured_at: datetime
    size: int
    subject: str
    sender: str
    recipients: str


@dataclass(frozen=True, slots=True)
class CapturedFile:
    """An attachment, its name made safe for a file system, its type as the mail claims it."""

    name: str
    claimed_type: str
    content: bytes


@dataclass(slots=True)
class CapturedMail:
    """A parsed mail. ``problem`` says why it could not be parsed completely."""

    envelope: CapturedEnvelope
    headers: list[tuple[str, str]]
    source: bytes
    html: str | None = None
    text: str | None = None
    calendar: str | None = None
    files: list[CapturedFile] = field(default_factory=list)
    problem: str | None = None


def newest(
    folder: Path, *, before: str | None = None, limit: int = 50
) -> tuple[Sequence[CapturedEnvelope], str | None]:
    """The newest mails, or the newest before the named one; and the name to pass for the next page, if there is one."""
    try:
        names = sorted((entry.name for entry in os.scandir(folder) if _NAME.fullmatch(entry.name)), reverse=True)
    except FileNotFoundError:
        names = []
    if before is not None:
        names = [name for name in names if name < before]
    found: list[CapturedEnvelope] = []
    for at, name in enumerate(names):
        try:
            content, size = _read(folder, name, HEAD)
        except MailNotFound:
            continue  # removed meanwhile, or not a regular file
        if len(found) == limit:
            return found, names[at - 1]
        found.append(_envelope(name, size, _headers(content)))
    return found, None


def read(folder: Path, name: str) -> CapturedMail:
    """The mail of this name, parsed as far as possible. Raises MailNotFound."""
    source, size = _read(folder, name, None)
    head = _headers(source)
    shown = [(one_line(key, 60), _decoded(value)) for key, value in islice(head.raw_items(), 200)]
    mail = CapturedMail(_envelope(name, size, head), shown, source)
    if size > LARGEST:
        mail.problem = f"It is larger than {LARGEST // 2**20} MB: its headers and its source are all that is shown."
    elif (parts := len(_CONTAINER.findall(source))) > CONTAINERS or parts * source.count(b"\n") > COST:
        mail.problem = "It has too many parts: its headers and its source are all that is shown."
    else:
        try:
            for part in _leaves(message_from_bytes(source)):
                _classify(mail, part)
        except Exception as error:  # noqa: BLE001 - the standard library has many ways to fail on what is no mail
            mail.problem = f"It could not be parsed completely ({type(error).__name__}); its source is complete."
    return mail


def _read(folder: Path, name: str, most: int | None) -> tuple[bytes, int]:
    """The file's first bytes, and its size. Raises MailNotFound for what is not a regular file with a mail's name."""
    if not _NAME.fullmatch(name):
        raise MailNotFound(name)
    try:
        # waits for no pipe's writer and follows no symbolic link out of the folder
        handle = os.open(folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        raise MailNotFound(name) from None
    about = os.fstat(handle)
    if not stat.S_ISREG(about.st_mode):
        os.close(handle)
        raise MailNotFound(name)
    with os.fdopen(handle, "rb") as file:
        return file.read(-1 if most is None else most), about.st_size


def _headers(content: bytes) -> "Message[str, str]":
    # The older policy: the newer one parses addresses, and fails or is slow on hostile ones.
    return BytesHeaderParser().parsebytes(content[:HEAD])


def _envelope(name: str, size: int, head: "Message[str, str]") -> CapturedEnvelope:
    named = _NAME.fullmatch(name)
    assert named  # noqa: S101 - _read has checked it
    try:
        at = datetime.strptime(named[1], "%Y%m%dT%H%M%S.%f").replace(tzinfo=UTC)
    except ValueError:
        at = datetime.fromtimestamp(0, UTC)
    # the first of each: the envelope's headers are written before the mail's own
    first = {key.lower(): value for key, value in reversed(list(head.raw_items()))}
    subject, sender, to = (_decoded(first.get(key, "")) for key in ("subject", "x-envelope-from", "x-envelope-to"))
    return CapturedEnvelope(name, at, size, subject, sender, to)


def _decoded(value: object) -> str:
    """A header's text as one line, its encoded words decoded as far as possible."""
    raw = _whole(str(value)[:4000])
    try:
        pieces = [_characters(p, c) if isinstance(p, bytes) else p for p, c in decode_header(raw)]
    except Exception:  # noqa: BLE001 - not only HeaderParseError: binascii's, too
        pieces = [raw]
    return one_line("".join(pieces), 2000)


def _whole(value: str) -> str:
    """The text, with the raw bytes that the parser kept as surrogates read as UTF-8."""
    try:
        return value.encode(errors="surrogateescape").decode(errors="replace")
    except UnicodeEncodeError:  # a lone surrogate of the mail's own
        return value.encode(errors="replace").decode()


def _characters(data: bytes, charset: str | None) -> str:
    try:
        known = codecs.lookup(charset or "utf-8").name
        return data.decode("utf-8" if known in _COSTLY else known, "replace")
    except (LookupError, ValueError):
        return data.decode(errors="replace")


def _leaves(part: "Message[str, str]") -> Iterator["Message[str, str]"]:
    inside = _inside(part)
    if part.get_content_maintype() == "multipart" and inside is not None:
        for each in inside:
            yield from _leaves(each)
    else:
        yield part


def _inside(part: "Message[str, str]") -> "list[Message[str, str]] | None":
    payload = part.get_payload()
    return cast("list[Message[str, str]]", payload) if isinstance(payload, list) else None


def _classify(mail: CapturedMail, part: "Message[str, str]") -> None:
    """Store a part as what a mail program would show it as."""
    kind, called, content = part.get_content_type(), part.get_filename(), _content(part)
    attached = called is not None or part.get_content_disposition() == "attachment"
    if kind == "text/calendar" and mail.calendar is None:
        mail.calendar = _text(part, content)
    if not attached and kind == "text/html" and mail.html is None:
        mail.html = _text(part, content)
    elif not attached and kind == "text/plain" and mail.text is None:
        mail.text = _text(part, content)
    elif attached or kind != "text/calendar":
        name = _decoded(called) if called else f"part-{len(mail.files) + 1}"
        mail.files.append(CapturedFile(filename(name), one_line(kind, 100), content))


def _content(part: "Message[str, str]") -> bytes:
    inside = _inside(part)
    if inside is not None:  # a mail within the mail
        return b"\n".join(each.as_bytes() for each in inside)
    content = part.get_payload(decode=True)
    return content if isinstance(content, bytes) else b""


def _text(part: "Message[str, str]", content: bytes) -> str:
    text = _characters(content, part.get_content_charset()).replace("\r\n", "\n").replace("\x00", "\ufffd")
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}\n… cut here: the source has all of it"

"""Captured mails, read from their files: whoever wrote them, nothing in them is believed."""

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
"""Bytes of a mail that is taken apart; of a larger one the headers are shown, and its source is to be had."""
HEAD = 64 * 1024
"""Bytes in which the headers have to be."""
CONTAINERS = 100
"""Parts within parts; a mail that has more was made to cost whoever reads it."""
COST = 10_000_000
"""Parts within parts times lines, since the parser looks at each line once for each part around it: a second or so."""
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
    """What a list shows of a mail; ``sender`` and ``recipients`` are those that SMTP was told."""

    name: str
    captured_at: datetime
    size: int
    subject: str
    sender: str
    recipients: str


@dataclass(frozen=True, slots=True)
class CapturedFile:
    """An attachment, its name fit for a disk, its type as the mail claims it."""

    name: str
    claimed_type: str
    content: bytes


@dataclass(slots=True)
class CapturedMail:
    """A mail taken apart. ``problem`` says why it could not be, wholly."""

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
    """The newest mails, or the newest before the named one; and what to name for those before them, if there are."""
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
            continue  # taken away meanwhile, or no file at all
        if len(found) == limit:
            return found, names[at - 1]
        found.append(_envelope(name, size, _headers(content)))
    return found, None


def read(folder: Path, name: str) -> CapturedMail:
    """The mail of this name, taken apart as far as it goes. Raises Gone."""
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
            mail.problem = f"It could not be taken apart wholly ({type(error).__name__}); its source is all there."
    return mail


def _read(folder: Path, name: str, most: int | None) -> tuple[bytes, int]:
    """The file's first bytes, and how many it has. Raises Gone for what is no plain file of a mail's name."""
    if not _NAME.fullmatch(name):
        raise MailNotFound(name)
    try:
        # neither waits for a pipe's writer nor follows a link out of the folder
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
    # The older policy: the newer one takes addresses apart, and fails on, or is slow with, what strangers write there.
    return BytesHeaderParser().parsebytes(content[:HEAD])


def _envelope(name: str, size: int, head: "Message[str, str]") -> CapturedEnvelope:
    named = _NAME.fullmatch(name)
    assert named  # noqa: S101 - _read has looked
    try:
        at = datetime.strptime(named[1], "%Y%m%dT%H%M%S.%f").replace(tzinfo=UTC)
    except ValueError:
        at = datetime.fromtimestamp(0, UTC)
    # the first of each: the envelope's are written before what the mail says of itself
    said = {key.lower(): value for key, value in reversed(list(head.raw_items()))}
    subject, sender, to = (_decoded(said.get(key, "")) for key in ("subject", "x-envelope-from", "x-envelope-to"))
    return CapturedEnvelope(name, at, size, subject, sender, to)


def _decoded(value: object) -> str:
    """A header's text, its encoded words decoded as far as they go, as one line."""
    raw = _whole(str(value)[:4000])
    try:
        pieces = [_characters(p, c) if isinstance(p, bytes) else p for p, c in decode_header(raw)]
    except Exception:  # noqa: BLE001 - not only HeaderParseError: binascii's, too
        pieces = [raw]
    return one_line("".join(pieces), 2000)


def _whole(value: str) -> str:
    """The text, bytes that the parser hid in it read as UTF-8."""
    try:
        return value.encode(errors="surrogateescape").decode(errors="replace")
    except UnicodeEncodeError:  # half of a pair, of the mail's own
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
    """Put a part where a mail program would."""
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

"""Logging of one process: readable on a terminal, one JSON object a line otherwise; secrets are masked."""

import json
import logging
import re
import sys
from datetime import UTC, datetime
from typing import Any

MASK = "***"
_SECRET_NAME = re.compile(r"(?i)secret|password|passcode|token|authorization|credential|api_key|auth_string")
_SECRET_TEXT = (
    (re.compile(r"(://[^:/@\s]*:)[^@\s]+(?=@)"), rf"\1{MASK}"),
    (re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=-]{8,}"), rf"\1 {MASK}"),
    (re.compile(r"\beyJ[\w-]+\.[\w-]+\.[\w-]*"), MASK),
    (re.compile(r"(?i)\b((?:password|secret|passcode|auth_string)\s*[=:]\s*)[^\s,;&'\"]+"), rf"\1{MASK}"),
)
_OWN = {*vars(logging.makeLogRecord({})), "message", "asctime", "taskName", "color_message"}
_QUIET = ("httpx", "httpcore", "websockets", "alembic.runtime.migration")


def setup(part: str, *, level: int = logging.INFO) -> None:
    """Log to this process's standard error, with the part's name in each line; safe to call again.

    Each item of ``extra`` becomes a field of its own: ``session_id``, ``run_id``, ``request_id``, …
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(ReadableFormatter(part) if sys.stderr.isatty() else JsonFormatter(part))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    for name in _QUIET:  # they log a line for each request or connection, which hides the lines that matter
        logging.getLogger(name).setLevel(max(level, logging.WARNING))


class JsonFormatter(logging.Formatter):
    """One JSON object a line: ts, level, part, logger, message, the extra fields, and the exception if any."""

    def __init__(self, part: str) -> None:
        super().__init__()
        self.part = part

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line = {
            "ts": at.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "part": self.part,
            "logger": record.name,
            "message": mask(record.getMessage()),
            **fields(record),
        }
        if trace := _trace(self, record):
            line["exception"] = trace
        return json.dumps(line, ensure_ascii=False, default=str)


class ReadableFormatter(logging.Formatter):
    """The same as a line for people: time, level, part, message, then the fields."""

    def __init__(self, part: str) -> None:
        super().__init__()
        self.part = part

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created).astimezone()
        shown = "".join(f" {name}={value}" for name, value in fields(record).items())
        line = f"{at:%H:%M:%S} {record.levelname:<7} {self.part}: {mask(record.getMessage())}{shown}"
        return f"{line}\n{trace}" if (trace := _trace(self, record)) else line


def fields(record: logging.LogRecord) -> dict[str, Any]:
    """The items of ``extra``, with secrets masked."""
    extra = {name: value for name, value in vars(record).items() if name not in _OWN}
    return {
        name: MASK if _SECRET_NAME.search(name) else mask(value) if isinstance(value, str) else value
        for name, value in extra.items()
    }


def mask(text: str) -> str:
    """The text with passwords in URLs, tokens and authorisation headers masked."""
    for pattern, replacement in _SECRET_TEXT:
        text = pattern.sub(replacement, text)
    return text


def _trace(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    return mask(formatter.formatException(record.exc_info)) if record.exc_info and record.exc_info[0] else ""

"""The one place that reads the clock; everything else takes ``now`` as an argument."""

import secrets
from datetime import UTC, datetime
from uuid import UUID


def utcnow() -> datetime:
    """The current moment, aware, in UTC."""
    return datetime.now(UTC)


def uuid7(now: datetime) -> UUID:
    """An id that sorts by its time of creation, to the millisecond (RFC 9562, section 5.7)."""
    millis = int(now.timestamp() * 1000)
    random = secrets.randbits(74)
    value = (millis & (1 << 48) - 1) << 80 | 0x7 << 76 | (random >> 62) << 64 | 0b10 << 62 | random & (1 << 62) - 1
    return UUID(int=value)

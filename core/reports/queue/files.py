"""A report's bytes: spooled to an unnamed temporary file, stored in the database in slices, and read from there."""

import hashlib
import tempfile
from collections.abc import Iterator
from typing import IO, cast
from uuid import UUID

from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from core.db import transaction
from core.errors import NotFound
from core.models import ReportFile, ReportSlice

SLICE = 1024 * 1024
"""Bytes of a stored slice: a reader or writer holds one slice at a time, however large the file is."""
IN_MEMORY = 4 * SLICE
"""A file up to this size is spooled in memory only."""


class Spool:
    """A report's bytes while it is rendered; beyond IN_MEMORY in a temporary file, which a kill cannot leave behind.

    Raises OSError when there is no room on the disk.
    """

    def __init__(self) -> None:
        # unnamed from the moment it is opened: the system frees it when the process ends, however that happens
        self._file = cast("IO[bytes]", tempfile.SpooledTemporaryFile(IN_MEMORY))  # noqa: SIM115 - closed by close
        self._hash = hashlib.sha256()
        self.size = 0

    def close(self) -> None:
        """Discard the bytes."""
        self._file.close()

    def write(self, chunk: bytes) -> None:
        """Append bytes."""
        self._file.write(chunk)
        self._hash.update(chunk)
        self.size += len(chunk)

    @property
    def sha256(self) -> str:
        """The hash of all bytes so far, in hexadecimal."""
        return self._hash.hexdigest()

    def slices(self) -> Iterator[bytes]:
        """All bytes from the beginning, in slices; may be called again."""
        self._file.seek(0)
        while chunk := self._file.read(SLICE):
            yield chunk


def store(db: Session, report_id: UUID, spool: Spool, *, filename: str, content_type: str) -> None:
    """Store the file in this transaction, with constant memory."""
    columns = {"filename": filename, "content_type": content_type, "size": spool.size, "sha256": spool.sha256}
    db.execute(insert(ReportFile).values(report_id=report_id, **columns))
    table = ReportSlice.__table__
    for ordinal, chunk in enumerate(spool.slices()):
        db.execute(insert(table).values(report_id=report_id, ordinal=ordinal, content=chunk))  # type: ignore[arg-type]


def read(report_id: UUID, first: int, last: int) -> Iterator[bytes]:
    """The file's bytes from ``first`` to ``last``, both included, a slice and a short transaction at a time.

    Raises NotFound when the file was removed meanwhile.
    """
    for ordinal in range(first // SLICE, last // SLICE + 1):
        query = select(ReportSlice.content).where(ReportSlice.report_id == report_id, ReportSlice.ordinal == ordinal)
        with transaction() as db:
            content = db.scalar(query)
        if content is None:
            raise NotFound("report file", report_id)
        begin, end = max(0, first - ordinal * SLICE), min(SLICE, last + 1 - ordinal * SLICE)
        yield bytes(content[begin:end])

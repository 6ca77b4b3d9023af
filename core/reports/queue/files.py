"""A report's bytes on their way: into a file without a name, into the database in slices, and out of it again."""

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
"""Bytes of a stored slice: what a reader or writer of a file holds at a time, however large that is."""
IN_MEMORY = 4 * SLICE
"""A file up to this size never touches the disk before it is stored."""


class Spool:
    """The bytes of a report that is being made; beyond a few megabytes they lie in a file that no kill leaves behind.

    Raises OSError when there is no room for it.
    """

    def __init__(self) -> None:
        # without a name from the moment it is opened: it goes with the process, however that ends
        self._file = cast("IO[bytes]", tempfile.SpooledTemporaryFile(IN_MEMORY))  # noqa: SIM115 - closed by close
        self._hash = hashlib.sha256()
        self.size = 0

    def close(self) -> None:
        """Forget the bytes."""
        self._file.close()

    def write(self, some: bytes) -> None:
        """Put more bytes at the end."""
        self._file.write(some)
        self._hash.update(some)
        self.size += len(some)

    @property
    def sha256(self) -> str:
        """The hash of all bytes so far, in hexadecimal."""
        return self._hash.hexdigest()

    def slices(self) -> Iterator[bytes]:
        """All bytes from the beginning, in slices; may be asked for again."""
        self._file.seek(0)
        while some := self._file.read(SLICE):
            yield some


def store(db: Session, report_id: UUID, spool: Spool, *, filename: str, content_type: str) -> None:
    """Keep the file in this transaction, with flat memory."""
    kept = {"filename": filename, "content_type": content_type, "size": spool.size, "sha256": spool.sha256}
    db.execute(insert(ReportFile).values(report_id=report_id, **kept))
    table = ReportSlice.__table__
    for ordinal, some in enumerate(spool.slices()):
        db.execute(insert(table).values(report_id=report_id, ordinal=ordinal, content=some))  # type: ignore[arg-type]


def read(report_id: UUID, first: int, last: int) -> Iterator[bytes]:
    """The file's bytes from ``first`` to ``last``, both included, a slice and a short transaction at a time.

    Raises NotFound when the file is removed meanwhile.
    """
    for ordinal in range(first // SLICE, last // SLICE + 1):
        query = select(ReportSlice.content).where(ReportSlice.report_id == report_id, ReportSlice.ordinal == ordinal)
        with transaction() as db:
            content = db.scalar(query)
        if content is None:
            raise NotFound("report file", report_id)
        begin, end = max(0, first - ordinal * SLICE), min(SLICE, last + 1 - ordinal * SLICE)
        yield bytes(content[begin:end])

"""Requested reports, and their rendered files."""

from datetime import datetime
from typing import Any, Literal, get_args
from uuid import UUID

from sqlalchemy import BigInteger, ForeignKey, Index, LargeBinary, Text, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from core.models.base import Base, Created, one_of

ReportStatus = Literal["queued", "running", "ready", "failed"]


class Report(Base):
    """One request for one report, and its status."""

    __tablename__ = "reports"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    type: Mapped[str]
    status: Mapped[ReportStatus] = mapped_column(Text, server_default="queued")
    parameters: Mapped[dict[str, Any]] = mapped_column(JSONB)
    request_hash: Mapped[str]
    """Hash of type, parameters and address: one user has one unfinished report for identical requests."""
    requested_by: Mapped[int | None] = mapped_column(ForeignKey("users.id"))
    """Null: the system, for a daily report or an operator's run."""
    email_to: Mapped[str | None]
    due_at: Mapped[Created]
    """When it is to be rendered, or retried."""
    data_as_of: Mapped[datetime | None]
    attempts: Mapped[int] = mapped_column(server_default="0")
    lease_owner: Mapped[str | None]
    lease_until: Mapped[datetime | None]
    last_error: Mapped[str | None]
    dedupe_key: Mapped[str | None] = mapped_column(unique=True)
    created_at: Mapped[Created]
    finished_at: Mapped[datetime | None]
    expires_at: Mapped[datetime | None]

    __table_args__ = (
        one_of("status", get_args(ReportStatus)),
        Index(
            "reports_in_flight",
            "requested_by",
            "request_hash",
            unique=True,
            postgresql_where=text("status IN ('queued', 'running')"),
        ),
        Index("reports_waiting", "due_at", postgresql_where=text("status = 'queued'")),
        Index("reports_lease", "lease_until", postgresql_where=text("status = 'running'")),
        Index("reports_by_requester", "requested_by", "id"),
    )


class ReportFile(Base):
    """A ready report's file: its name, kind, size and SHA-256."""

    __tablename__ = "report_files"

    report_id: Mapped[UUID] = mapped_column(ForeignKey("reports.id", ondelete="CASCADE"), primary_key=True)
    filename: Mapped[str]
    content_type: Mapped[str]
    size: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str]


class ReportSlice(Base):
    """A part of a file's bytes: a file larger than memory can be written and read slice by slice."""

    __tablename__ = "report_slices"

    report_id: Mapped[UUID] = mapped_column(ForeignKey("report_files.report_id", ondelete="CASCADE"), primary_key=True)
    ordinal: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    content: Mapped[bytes] = mapped_column(LargeBinary)

"""The figures of every report, computed by the database as defined in docs/domain.md, "Report definitions"."""

from core.reports.metrics.candidate import candidate
from core.reports.metrics.dashboard import dashboard
from core.reports.metrics.interview import interview

__all__ = ["candidate", "dashboard", "interview"]

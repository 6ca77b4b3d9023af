"""The figures of every report, computed in the database by their written definitions (DOMAIN, "Report definitions")."""

from core.reports.metrics.candidate import candidate
from core.reports.metrics.dashboard import dashboard
from core.reports.metrics.interview import interview

__all__ = ["candidate", "dashboard", "interview"]

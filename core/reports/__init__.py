"""Reports: who asked for which, and what became of it."""

from core.reports.daily import Asked, ask_daily

__all__ = ["Asked", "ask_daily"]

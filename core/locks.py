"""Numbers of advisory locks and names of NOTIFY channels, which all processes share through PostgreSQL."""

from typing import Final

LOCKS: Final = 7747
"""The class of all our advisory locks; the second number says which."""
OUTBOX_LOCK: Final = 1
DISPATCHER_LOCK: Final = 2
MIGRATION_LOCK: Final = 3
EMAIL_QUEUE_LOCK: Final = 4
REPORT_QUEUE_LOCK: Final = 5
DEMO_LOCK: Final = 6

PUSH_CHANNEL: Final = "greenroom_push"
"""NOTIFY on it says that push events were committed."""
WORK_CHANNEL: Final = "greenroom_work"
"""NOTIFY on it says that work became due sooner than the dispatchers' next planned check."""

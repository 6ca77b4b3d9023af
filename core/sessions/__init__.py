"""Sessions (one candidate taking one interview): create, schedule, move, record progress, sweep, query."""

from core.sessions.create import NewSession, create
from core.sessions.move import NewStatus, move
from core.sessions.progress import (
    NewAnswer,
    NewFeedback,
    answer,
    give_feedback,
    mark_opened,
    note_activity,
)
from core.sessions.queries import SessionFilter, get, history, may_follow, page
from core.sessions.schedule import SessionPatch, change
from core.sessions.sweep import update_statuses

__all__ = [
    "NewAnswer",
    "NewFeedback",
    "NewSession",
    "NewStatus",
    "SessionFilter",
    "SessionPatch",
    "answer",
    "change",
    "create",
    "get",
    "give_feedback",
    "history",
    "mark_opened",
    "may_follow",
    "move",
    "note_activity",
    "page",
    "update_statuses",
]

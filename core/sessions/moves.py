"""The table of moves: which status may follow which, and who may move the session there."""

from collections.abc import Mapping
from typing import Literal

from core.models import SessionStatus

Actor = Literal["candidate", "interviewer", "recruiter", "admin", "system"]
"""Who moves a session: the candidate and the interviewer are those of that session."""

_candidate, _interviewer, _recruiter, _admin, _system = (
    frozenset[Actor]({"candidate"}),
    frozenset[Actor]({"interviewer"}),
    frozenset[Actor]({"recruiter"}),
    frozenset[Actor]({"admin"}),
    frozenset[Actor]({"system"}),
)

MOVES: Mapping[tuple[SessionStatus, SessionStatus], frozenset[Actor]] = {
    ("invited", "scheduled"): _candidate | _recruiter | _admin,
    ("invited", "in_progress"): _candidate,
    ("invited", "expired"): _system,
    ("invited", "cancelled"): _candidate | _recruiter | _admin,
    ("scheduled", "in_progress"): _candidate | _interviewer,
    ("scheduled", "no_show"): _system | _interviewer | _recruiter,
    ("scheduled", "cancelled"): _candidate | _recruiter | _admin,
    ("in_progress", "interrupted"): _system | _candidate,
    ("in_progress", "completed"): _candidate | _interviewer | _system,
    ("in_progress", "abandoned"): _candidate | _system,
    ("in_progress", "cancelled"): _admin,
    ("interrupted", "in_progress"): _candidate,
    ("interrupted", "completed"): _interviewer | _system,
    ("interrupted", "abandoned"): _candidate | _system,
    ("interrupted", "cancelled"): _admin,
    ("no_show", "in_progress"): _candidate,
    ("no_show", "completed"): _interviewer | _admin,
    ("abandoned", "completed"): _interviewer | _admin,
}

CORRECTIONS = frozenset({("no_show", "completed"), ("abandoned", "completed")})
"""Moves out of an end state that correct the record; the history shows them as ``corrected``."""

ENDED: tuple[SessionStatus, ...] = ("completed", "abandoned", "no_show", "expired", "cancelled")

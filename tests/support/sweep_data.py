"""A stage for the status sweep: sessions of every rule, each due at one moment."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any
from uuid import UUID, uuid4

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import namedtuple_row

from core.sessions.deadlines import Rule
from tests.support.processes import PostgresServer, forget_settings, own_database, use_database

NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)
TICK = timedelta(microseconds=1)
INTERVIEWER, CANDIDATE = 3, 4


def minutes(n: float) -> timedelta:
    return timedelta(minutes=n)


@dataclass
class Stage:
    """A database with an interview of five required questions and a sixth, and sessions as tests want them."""

    url: str
    db: psycopg.Connection[Any]
    numbers: Iterator[int]

    @classmethod
    def at(cls, url: str) -> "Stage":
        stage = cls(url, psycopg.connect(url, autocommit=True, row_factory=namedtuple_row), count(1000))
        for id_, role in enumerate(("admin", "recruiter", "interviewer", "candidate"), 1):
            stage.insert("users", id=id_, email=f"{role}@example.com", name=role.title(), role=role)
        stage.insert("candidates", id=CANDIDATE, user_id=CANDIDATE, email="c@example.com", name="Cleo")
        stage.interview(1)
        return stage

    @contextmanager
    def copy(self, server: PostgresServer) -> Iterator[str]:
        """A copy of the database as it is now, used by this process until the block ends."""
        name = str(conninfo_to_dict(self.url)["dbname"])
        # A database that is copied must have no connections.
        self.db.close()
        forget_settings()
        try:
            with own_database(PostgresServer(server.url, name)) as url:
                yield url
        finally:
            use_database(self.url)

    def insert(self, table: str, **row: Any) -> None:
        names = ", ".join(row)
        places = ", ".join(["%s"] * len(row))
        self.db.execute(f"INSERT INTO {table} ({names}) VALUES ({places})", list(row.values()))  # noqa: S608

    def interview(self, id_: int, **row: Any) -> int:
        self.insert("interviews", id=id_, title=f"Interview {id_}", position="Engineer", **row)
        for n in range(1, 7):
            question = 10 * id_ + n
            self.insert(
                "questions", id=question, interview_id=id_, ordinal=n, text="?", skill="thinking", required=n < 6
            )
        return id_

    def session(self, status: str, *, answered: Sequence[int] = (), **row: Any) -> UUID:
        """A session of a new candidate, with the defaults of an imported row: the sweep looks at it at once."""
        id_, candidate = uuid4(), next(self.numbers)
        self.insert("candidates", id=candidate, email=f"{candidate}@example.com", name=f"Candidate {candidate}")
        start = row.get("scheduled_start")
        end = {"scheduled_end": start + minutes(60)} if start else {}
        given = {"candidate_id": candidate, "interview_id": 1, "status_at": NOW - timedelta(days=1)} | end | row
        self.insert("sessions", id=id_, status=status, ics_uid=f"{id_}@greenroom", **given)
        for n in answered:
            question = 10 * given["interview_id"] + n
            self.insert(
                "answers", session_id=id_, question_id=question, source="ai", score=n, answered_at=given["status_at"]
            )
        return id_

    def get(self, id_: UUID) -> Any:
        return self.db.execute("SELECT * FROM sessions WHERE id = %s", [id_]).fetchone()

    def status(self, id_: UUID) -> str:
        return str(self.get(id_).status)

    def events(self, id_: UUID) -> list[tuple[str, str | None]]:
        rows = self.db.execute("SELECT kind, new_status FROM session_events WHERE session_id = %s ORDER BY id", [id_])
        return [tuple(row) for row in rows]

    def pushed(self, id_: UUID) -> list[str]:
        """The types pushed to the session's own topic, in order."""
        destination = f"/topic/session/{id_}"
        rows = self.db.execute("SELECT type FROM push_events WHERE destination = %s ORDER BY id", [destination])
        return [row.type for row in rows]

    def notified(self, id_: UUID) -> set[tuple[str, int | str]]:
        rows = self.db.execute("SELECT category, user_id, role FROM notifications WHERE session_id = %s", [id_])
        return {(row.category, row.user_id or row.role) for row in rows}


@contextmanager
def staged(database: str) -> Iterator[Stage]:
    """A stage in this database."""
    made = Stage.at(database)
    try:
        yield made
    finally:
        made.db.close()


def contents(url: str) -> dict[str, list[Any]]:
    """Everything a pass may write, without what differs between two runs: generated ids and the clock's times."""
    queries = {
        "sessions": "SELECT to_jsonb(s) FROM sessions s ORDER BY s.id",
        "session_events": "SELECT to_jsonb(e) - 'id' FROM session_events e ORDER BY e.session_id, e.id",
        "notifications": "SELECT to_jsonb(n) - 'id' - 'created_at' FROM notifications n ORDER BY n.dedupe_key",
        "notification_receipts": """
            SELECT n.dedupe_key, r.user_id FROM notification_receipts r JOIN notifications n ON n.id = r.notification_id
            ORDER BY 1, 2""",
        "push_events": """
            SELECT destination, audience, type, payload::jsonb - 'notification_id' - 'created_at' AS payload
            FROM push_events WHERE type <> 'notification.unread' ORDER BY 1, 3, 4""",
        # Counts are pushed once a transaction: how many depends on the batches, what they come to does not.
        "unread": """
            SELECT DISTINCT ON (destination) destination, payload->>'unread'
            FROM push_events WHERE type = 'notification.unread' ORDER BY destination, id DESC""",
    }
    with psycopg.connect(url) as db:
        return {table: db.execute(query).fetchall() for table, query in queries.items()}


# Each rule: the session whose rule falls due at NOW, its rule, and the status that follows.
BOUNDARIES: dict[str, tuple[dict[str, Any], Rule, str]] = {
    "an invitation expires": ({"status": "invited", "invitation_expires_at": NOW}, "expire", "expired"),
    "15 minutes without a start": (
        {"status": "scheduled", "scheduled_start": NOW - minutes(15), "late_version": 1},
        "no_show",
        "no_show",
    ),
    "the scheduled end comes first": (
        {
            "status": "scheduled",
            "scheduled_start": NOW - minutes(10),
            "scheduled_end": NOW,
            "late_version": 1,
        },
        "no_show",
        "no_show",
    ),
    "5 minutes late": ({"status": "scheduled", "scheduled_start": NOW - minutes(5)}, "late", "scheduled"),
    "interrupted for 30 minutes, enough answered": (
        {"status": "interrupted", "status_at": NOW - minutes(30), "answered": (1, 2, 3, 4)},
        "close",
        "completed",
    ),
    "interrupted for 30 minutes, too little answered": (
        {"status": "interrupted", "status_at": NOW - minutes(30), "answered": (1, 2, 3, 6)},
        "close",
        "abandoned",
    ),
    "interrupted a moment ago, past its time": (
        {
            "status": "interrupted",
            "status_at": NOW - minutes(3),
            "started_at": NOW - minutes(90),
            "last_activity_at": NOW - minutes(13),
        },
        "close",
        "abandoned",
    ),
    "in progress past its time": (
        {
            "status": "in_progress",
            "started_at": NOW - minutes(90),
            "last_activity_at": NOW - minutes(5),
            "answered": (1, 2, 3, 4, 5, 6),
        },
        "close",
        "completed",
    ),
    "in progress past its time, silent for 2 minutes": (
        {"status": "in_progress", "started_at": NOW - minutes(200), "last_activity_at": NOW - minutes(2)},
        "close",
        "abandoned",
    ),
    "idle for 10 minutes": (
        {"status": "in_progress", "started_at": NOW - minutes(40), "last_activity_at": NOW - minutes(10)},
        "interrupt",
        "interrupted",
    ),
    "begun, and silent since": (
        {"status": "in_progress", "started_at": NOW - minutes(10), "status_at": NOW - minutes(10)},
        "interrupt",
        "interrupted",
    ),
    "feedback is due after 48 hours": (
        {
            "status": "completed",
            "ended_at": NOW - timedelta(hours=48),
            "status_at": NOW - timedelta(hours=48),
            "interviewer_id": INTERVIEWER,
        },
        "feedback_overdue",
        "completed",
    ),
}


def every_rule(stage: Stage, times: int) -> list[UUID]:
    made = []
    for _ in range(times):
        for columns, _, _ in BOUNDARIES.values():
            # Nobody can be double-booked by the ones that run: they have no interviewer, or no schedule.
            made.append(stage.session(**columns))
        made.append(stage.session("invited", invitation_expires_at=NOW + minutes(1), interviewer_id=INTERVIEWER))
        made.append(stage.session("expired"))
    return made

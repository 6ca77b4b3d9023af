"""The dashboard's CSV: the rows it counts, readable by machines, harmless in a spreadsheet, flat in memory."""

import csv
import io
from collections.abc import Iterator
from datetime import UTC, datetime

import psutil
import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from core.db import snapshot, transaction
from core.reports import metrics
from core.reports.csv import rows
from core.reports.data import Period
from tests.support.processes import Database
from tests.support.report_rows import NOW, World, at, march


class _Undo(Exception):
    """Ends a test's transaction without a trace."""


@pytest.fixture
def db(shared_database: Database) -> Iterator[Session]:
    """A transaction that is rolled back."""
    with pytest.raises(_Undo), transaction() as db:
        yield db
        raise _Undo


def _read(db: Session, period: Period | None = None) -> list[dict[str, str]]:
    db.flush()
    written = b"".join(rows(db, period or march())).decode()
    assert written.endswith("\r\n")
    return list(csv.DictReader(io.StringIO(written, newline=""), strict=True))


def test_only_the_header_when_there_is_nothing(db: Session) -> None:
    (header,) = rows(db, march())
    assert header.startswith(b"session_id,status,") and header.count(b"\r\n") == 1


HOSTILE = [
    'say "no"', "two\nlines", "two\r\nlines", "a,b;c", "Zoë 李 بدر 🎉", "", " ", "'quoted", "x=1", "it's +1", "\\",
    "\u2028",
]  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_names_come_back_as_they_are(db: Session, name: str) -> None:
    world = World(db, title=name, position=name)
    row = world.held(3, candidate=world.candidate(name=name, source=name), interviewer_id=world.interviewers[0].id)
    (result,) = _read(db)
    assert [result[column] for column in ("candidate", "source", "interview", "position")] == [name] * 4
    assert (result["session_id"], result["interviewer"], result["status"]) == (str(row.id), "Ida", "completed")


@pytest.mark.parametrize("begin", ["=", "+", "-", "@", "\t", "\r"])
def test_formulas_are_text(db: Session, begin: str) -> None:
    name = f'{begin}HYPERLINK("http://x","y")'
    world = World(db, title=name, position=name)
    world.interviewers[0].name = name
    world.held(3, candidate=world.candidate(name=name, source=name), interviewer_id=world.interviewers[0].id)
    (result,) = _read(db)
    assert {result[c] for c in ("candidate", "source", "interview", "position", "interviewer")} == {"'" + name}


def test_unknown_values_are_empty(db: Session) -> None:
    world = World(db, settings={"pass_score": 61.5})
    world.held(3, score=88.25, decision="hold", decided_at=at(9))
    world.session("invited", created_at=at(4), invitation_expires_at=at(60))
    held, invited = _read(db)
    assert (held["score"], held["pass_score"], held["decision"]) == ("88.25", "61.50", "hold")
    assert {invited[c] for c in ("score", "decision", "interviewer", "started_at", "feedback_due_at", "source")} == {""}


def test_times_have_the_zones_offset(db: Session) -> None:
    world = World(db)
    summer = world.interviewers[0].id
    row = world.held(29, hour=0.5, interviewer_id=summer, decided_at=at(29, 1), created_at=at(2))
    world.feedback(row, 3)
    (result,) = _read(db, Period(at(2, 0), at(30, 0), "Europe/Berlin"))
    # On the 29th the clocks of Berlin went from two to three.
    assert result["scheduled_start"] == "2026-03-29T01:30:00+01:00"
    assert result["decided_at"] == "2026-03-29T03:00:00+02:00"
    assert (
        result["feedback_due_at"] == "2026-03-31T03:30:00+02:00"
        and result["feedback_at"] == "2026-03-29T06:30:00+02:00"
    )
    for zone, offset in (("Etc/GMT-14", "+14:00"), ("Asia/Kathmandu", "+05:45"), ("America/St_Johns", "-02:30")):
        (result,) = _read(db, Period(at(2, 0), at(30, 0), zone))
        assert result["scheduled_start"].endswith(offset)
        assert datetime.fromisoformat(result["scheduled_start"]) == row.scheduled_start


def test_the_dashboard_can_be_computed_from_it(db: Session) -> None:
    world = World(db)
    for day in range(1, 31):
        world.held(day, score=3 * day)
        world.session("no_show", scheduled_start=at(day), no_show_party="candidate", deleted_at=at(31))
    result, period = metrics.dashboard(db, march(), as_of=NOW), march()
    lines = _read(db)
    assert len(lines) == result.stamp.n

    def within(moment: str) -> bool:
        return bool(moment) and period.start <= datetime.fromisoformat(moment) < period.end

    planned = [line for line in lines if within(line["scheduled_start"])]
    came = sum(bool(line["started_at"]) for line in planned)
    missed = sum(line["no_show_party"] == "candidate" for line in planned)
    assert result.totals.planned == len(planned) and result.totals.show == (came, came + missed)
    passed = [float(line["score"]) >= float(line["pass_score"]) for line in lines if within(line["started_at"])]
    assert result.totals.passed == (sum(passed), len(passed))


MANY = 50_000


@pytest.mark.usefixtures("database")
def test_memory_is_flat() -> None:
    with transaction() as db:
        world = World(db)
        person = world.candidate(name="Somebody with a name of the usual length")
        db.execute(
            text(
                "INSERT INTO sessions (id, candidate_id, interview_id, status, status_at, ics_uid, created_at)"
                " SELECT gen_random_uuid(), :person, :interview, 'cancelled', :at, 'x', :at"
                " FROM generate_series(1, :many)"
            ),
            {
                "person": person.id,
                "interview": world.interview.id,
                "at": datetime(2026, 3, 3, tzinfo=UTC),
                "many": MANY,
            },
        )
    process = psutil.Process()
    with snapshot() as db:
        result = rows(db, Period(at(1, month=2), at(2, 0), "UTC"))
        assert sum(map(len, result)) < 500  # what the first query needs is there
        before = peak = process.memory_info().rss
        size = 0
        for piece in rows(db, march()):
            size += len(piece)
            peak = max(peak, process.memory_info().rss)
    assert size > MANY * 150
    assert peak - before < 8e6  # all rows at once take some 30 MB


def test_a_piece_is_of_bounded_size(db: Session) -> None:
    world = World(db)
    for _ in range(3):
        world.held(3)
    db.flush()
    assert [piece.count(b"\r\n") for piece in rows(db, march())] == [1, 3]

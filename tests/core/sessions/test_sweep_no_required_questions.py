"""The status sweep closes a session of an interview that requires no answer: completed if there is any answer."""

from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from core.sessions import update_statuses
from tests.support.sweep_data import NOW, Stage, minutes, staged

OVER = {"status": "in_progress", "started_at": NOW - minutes(95), "last_activity_at": NOW - minutes(3)}
NOT_RESUMED = {"status": "interrupted", "started_at": NOW - minutes(50), "status_at": NOW - minutes(30)}


@pytest.fixture
def stage(database: str) -> Iterator[Stage]:
    with staged(database) as made:
        yield made


@pytest.mark.parametrize("columns", [OVER, NOT_RESUMED], ids=["over", "not resumed"])
@pytest.mark.parametrize("ratio", [0, 0.8, 1])
@pytest.mark.parametrize(
    ("answered", "becomes"), [((), "abandoned"), ((2,), "completed"), ((1, 6), "completed")], ids=["none", "1", "2"]
)
def test_optional_questions_only(
    stage: Stage, columns: dict[str, Any], ratio: float, answered: Sequence[int], becomes: str
) -> None:
    interview = stage.interview(2, completion_ratio=ratio)
    stage.db.execute("UPDATE questions SET required = false WHERE interview_id = %s", [interview])
    id_ = stage.session(**columns, interview_id=interview, answered=answered)
    assert update_statuses(now=NOW).counts == {"close": 1}
    assert stage.status(id_) == becomes


def test_no_questions_at_all(stage: Stage) -> None:
    interview = stage.interview(2)
    stage.db.execute("DELETE FROM questions WHERE interview_id = %s", [interview])
    id_ = stage.session(**OVER, interview_id=interview)
    update_statuses(now=NOW)
    assert stage.status(id_) == "abandoned"


def test_an_answer_of_another_session_does_not_count(stage: Stage) -> None:
    interview = stage.interview(2)
    stage.db.execute("UPDATE questions SET required = false WHERE interview_id = %s", [interview])
    with_answer = stage.session(**OVER, interview_id=interview, answered=(1,))
    without = stage.session(**OVER, interview_id=interview)
    update_statuses(now=NOW)
    assert (stage.status(with_answer), stage.status(without)) == ("completed", "abandoned")


def test_a_single_required_question_decides_alone(stage: Stage) -> None:
    interview = stage.interview(2)
    stage.db.execute("UPDATE questions SET required = (ordinal = 4) WHERE interview_id = %s", [interview])
    required = stage.session(**OVER, interview_id=interview, answered=(4,))
    optional = stage.session(**OVER, interview_id=interview, answered=(1, 2, 3, 5, 6))
    update_statuses(now=NOW)
    assert (stage.status(required), stage.status(optional)) == ("completed", "abandoned")
    assert stage.get(optional).ended_at == NOW


def test_dry_run_names_the_rule_and_writes_nothing(stage: Stage) -> None:
    interview = stage.interview(2)
    stage.db.execute("UPDATE questions SET required = false WHERE interview_id = %s", [interview])
    id_ = stage.session(**OVER, interview_id=interview)
    assert update_statuses(now=NOW, dry_run=True).counts == {"close": 1}
    assert stage.status(id_) == "in_progress"

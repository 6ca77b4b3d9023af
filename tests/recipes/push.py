"""Checks docs/how-to/add-a-push.md in a copy of the tree: a changed interview is pushed, with its type."""

import json

from sqlalchemy import text

import core
from tests.support.recipes import in_the_copy, step

in_the_copy(core)

with step(1, "The event class"):
    from core import events  # here, and first: with a wrong class nothing that imports it can be imported
    from core.db import transaction

    event = events.InterviewChanged(interview_id=1, changed=("title",))  # type: ignore[attr-defined]
    assert event.destinations() == ("/topic/sessions",)

with step(2, "The publish"):
    from core import interviews
    from tests.support import factories

    with transaction() as db:
        people = factories.people(db)
        interviews.change(
            db, people.interview_id, interviews.InterviewPatch(title="Another title"), by=people.viewer("recruiter")
        )
    with transaction() as db:
        rows = db.execute(text("SELECT destination, type, payload::text FROM push_events")).all()
    (row,) = [row for row in rows if row.type == "interview.changed"]
    assert row.destination == "/topic/sessions"
    assert json.loads(row.payload) == {"interview_id": people.interview_id, "changed": ["title"]}

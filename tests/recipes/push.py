"""Checks docs/how-to/add-a-push.md in a copy of the tree: a changed interview is pushed, with its type."""

import json

from sqlalchemy import text

from core import events
from core.db import transaction
from tests.support.recipes import in_the_copy, step

in_the_copy(events)

with step(1, "The event class"):
    event = events.InterviewChanged(interview_id=1, changed=("title",))  # type: ignore[attr-defined]
    assert event.destinations() == ("/topic/sessions",)

with step(2, "The publish"):
    from core import interviews  # not before: without the first step it cannot be imported
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

"""Checks docs/how-to/add-a-mail.md in a copy of the tree: rendered for both sides of a session, and queued."""

import core
from core.clock import utcnow
from core.db import transaction
from tests.support.recipes import in_the_copy, step

in_the_copy(core)

now = utcnow()

with step(1, "The row"):
    from core.emails.kinds import KINDS  # here, and first: with a wrong row nothing that imports it can be imported
    from core.migrations import migrate

    assert KINDS["preparation"].on_demand_in == ("scheduled",)
    migrate()

with step(2, "The templates"):
    from core import emails
    from core.emails.content import render
    from core.emails.content.session_details import session_details
    from core.models import Email
    from tests.support import factories

    with transaction() as db:
        people = factories.people(db)
        session_id = factories.session(db, now=now, people=people, status="scheduled")
    with transaction() as db:
        about = session_details(db, [session_id])[session_id]
    assert about.interviewer is not None
    for recipient, subject in ((about.candidate, "Engineer"), (about.interviewer, about.candidate.name)):
        mail = render("preparation", about, recipient, now=now)
        assert mail.subject == f"How to prepare for the interview: {subject}"
        assert "Open the interview" in mail.text
        assert mail.html is not None and "Open the interview" in mail.html
    asked = emails.NewEmail.model_validate({"kind": "preparation", "session_id": session_id})
    with transaction() as db:
        queued = emails.queue_on_demand(db, asked, by=people.viewer("recruiter"), now=now)
    with transaction() as db:
        row = db.get_one(Email, queued.id)
        assert (row.kind, row.status, row.category) == ("preparation", "queued", "scheduled")

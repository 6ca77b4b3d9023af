"""Checks docs/how-to/add-a-report.md in a copy of the tree: its data, its pages, and a request for it."""

from datetime import timedelta
from importlib import import_module

import core
from core.clock import utcnow
from core.db import transaction
from tests.support.recipes import in_the_copy, step

in_the_copy(core)

now = utcnow()

with step(3, "The line of the registry"):
    # here, and first: with a wrong line nothing that imports it can be imported
    from core.reports.registry import REPORTS
    from tests.support import factories

with transaction() as db:
    people = factories.people(db)
    factories.session(db, now=now, people=people, status="completed")
    recruiter = people.viewer("recruiter")
period = {"start": (now - timedelta(days=1)).isoformat(), "end": (now + timedelta(days=1)).isoformat()}

with step(1, "The module"):
    report = import_module("core.reports.interviewers")
    with transaction() as db:
        data = report.gather(db, period, now)
    assert [tuple(row)[1:] for row in data.rows] == [(1, 0)]
    laid_out = report.lay_out(data)

with step(2, "The template"):
    page = laid_out.page({})
    assert "<h1>Interviewers</h1>" in page
    assert data.rows[0].name in page

with step(3, "The line of the registry"):
    from core.migrations import migrate
    from core.models import Report
    from core.reports import build, enqueue
    from core.reports.queue.parameters import NewReport

    assert REPORTS["interviewers_pdf"].module == "interviewers"
    migrate()
    with transaction() as db:
        queued = enqueue(db, NewReport.model_validate({"type": "interviewers_pdf", **period}), by=recruiter, now=now)
    with transaction() as db:
        row = db.get_one(Report, queued.id)
        kind, parameters = row.type, row.parameters
    layout = build.lay_out(kind, parameters)
    assert layout.filename.startswith("Interviewers "), layout.filename
    assert data.rows[0].name in layout.document.page({})

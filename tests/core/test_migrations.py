"""The schema: what migrations make is what the models say, and CHECKs follow the tables in the code."""

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from core.clock import utcnow
from core.db import engine, transaction
from core.emails.kinds import KINDS
from core.migrations import derived_checks
from core.reports.registry import REPORTS
from tests.support import factories as make


def check_of(table: str, column: str) -> str:
    with transaction() as db:
        query = text("SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = :name")
        return str(db.execute(query, {"name": f"{table}_{column}_check"}).scalar_one())


def test_a_fresh_database_takes_every_kind_of_mail_and_type_of_report(database: str) -> None:
    assert all(f"'{name}'" in check_of("emails", "kind") for name in KINDS)
    assert all(f"'{name}'" in check_of("reports", "type") for name in REPORTS)


def test_migrate_updates_the_checks_for_new_kinds(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(IntegrityError), transaction() as db:
        make.email(db, now=utcnow(), kind="newsletter")
    monkeypatch.setitem(derived_checks.DERIVED, ("emails", "kind"), ("generic", "newsletter"))
    with engine().connect() as connection:
        derived_checks.widen(connection)
        derived_checks.widen(connection)
    with transaction() as db:
        make.email(db, now=utcnow(), kind="newsletter")
        make.email(db, now=utcnow(), kind="invitation")
    with transaction() as db:
        assert sorted(db.execute(text("SELECT kind FROM emails")).scalars()) == ["invitation", "newsletter"]
        unchecked = "SELECT count(*) FROM pg_constraint WHERE NOT convalidated"
        assert db.execute(text(unchecked)).scalar_one() == 0
    with pytest.raises(IntegrityError), transaction() as db:
        make.email(db, now=utcnow(), kind="telegram")

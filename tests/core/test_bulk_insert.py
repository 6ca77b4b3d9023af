"""Rows in bulk: whatever a column may hold arrives as it was given, in order, once."""

from datetime import UTC, datetime
from uuid import uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from core.db import array, insert_many, transaction
from core.models import PushEventRow, User
from tests.support.processes import Database

anything = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)))


def given_back(values: list[object], type_: str) -> list[object]:
    with transaction() as db:
        query = f"SELECT value FROM unnest(CAST(:values AS {type_}[])) WITH ORDINALITY AS x(value, n) ORDER BY n"  # noqa: S608
        return list(db.execute(text(query), {"values": array(values)}).scalars())


@settings(max_examples=60)
@given(st.lists(anything | st.none() | st.sampled_from(["", "NULL", "null", '"', "\\", "{}", "a,b", " a ", "\n\t"])))
def test_any_text_comes_back(shared_database: Database, values: list[object]) -> None:
    assert given_back(values, "text") == values


@pytest.mark.parametrize(
    ("type_", "values"),
    [
        ("timestamptz", [datetime(2026, 3, 10, 12, 0, 0, 1, tzinfo=UTC), None, datetime(1970, 1, 1, tzinfo=UTC)]),
        ("uuid", [uuid4(), None, uuid4()]),
        ("bigint", [2**63 - 1, -1, None, 0]),
        ("boolean", [True, False, None]),
        ("numeric", [1.5, None, 0.1]),
        ("jsonb", [{"a": 'say "no"', "b": ["\\", None, {"c": "ü\n"}]}, None, {}]),
    ],
)
def test_any_type_comes_back(shared_database: Database, type_: str, values: list[object]) -> None:
    back = given_back(values, type_)
    assert [value if value is None or type_ != "numeric" else float(value) for value in back] == values  # type: ignore[arg-type]


def test_a_list_has_a_value_for_each_row_and_the_rest_is_the_same_for_all(shared_database: Database) -> None:
    with transaction() as db:
        names = [f"Name {n}" for n in range(1000)]
        made = insert_many(
            db,
            User,
            {"email": [f"{n}@example.com" for n in range(1000)], "name": names, "role": "candidate"},
            returning=("id", "name", "role"),
        )
        assert [row.name for row in made] == names
        assert {row.role for row in made} == {"candidate"}
        assert [row.id for row in made] == sorted(row.id for row in made)


def test_no_rows_are_no_statement(shared_database: Database) -> None:
    with transaction() as db:
        assert insert_many(db, User, {"email": [], "name": [], "role": "candidate"}, returning=("id",)) == ()


def test_existing_rows_are_skipped(shared_database: Database) -> None:
    columns = {"destination": "/topic/flows", "type": "x", "payload": ["1", "2"], "dedupe_key": ["a", "b"]}
    conflict_target = "(dedupe_key) WHERE dedupe_key IS NOT NULL"
    with transaction() as db:
        assert len(insert_many(db, PushEventRow, columns, conflict_target=conflict_target, returning=("id",))) == 2
        assert insert_many(db, PushEventRow, columns, conflict_target=conflict_target, returning=("id",)) == []

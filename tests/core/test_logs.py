"""Logs: what a machine reads, and what never stands in them."""

import json
import logging

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DataError

from core import logs
from core.db import transaction


@pytest.fixture
def root() -> logging.Logger:
    return logging.getLogger()


def test_a_log_record_is_one_json_object(capsys: pytest.CaptureFixture[str], root: logging.Logger) -> None:
    before, level = root.handlers, root.level
    try:
        logs.setup("api")
        logging.getLogger("greenroom.test").warning("two\nlines", extra={"session_id": "s-1", "status": 7})
        try:
            raise ValueError("wrong")
        except ValueError:
            logging.getLogger("greenroom.test").exception("failed")
    finally:
        root.handlers, root.level = before, level
    first, second = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert first["ts"].endswith("Z")
    assert {name: first[name] for name in ("level", "part", "message", "session_id", "status")} == {
        "level": "warning",
        "part": "api",
        "message": "two\nlines",
        "session_id": "s-1",
        "status": 7,
    }
    assert second["exception"].endswith("ValueError: wrong")


@pytest.mark.parametrize(
    "secret_text",
    [
        "no connection to postgresql://greenroom:hush@db/greenroom",
        "no connection to redis://:hush@db/0",
        "sent Authorization: Bearer hush.hush.hush",
        "signed in with password=hush",
    ],
)
def test_a_secret_is_masked(secret_text: str) -> None:
    record = logging.makeLogRecord(
        {"msg": secret_text, "levelname": "INFO", "api_token": "hush", "detail": secret_text}
    )
    for formatter in (logs.JsonFormatter("api"), logs.ReadableFormatter("api")):
        line = formatter.format(record)
        assert "hush" not in line
        assert logs.MASK in line


@pytest.mark.usefixtures("database")
def test_parameters_of_failed_statements_are_not_logged() -> None:
    with pytest.raises(DataError) as failed, transaction() as db:
        db.execute(text("SELECT 1 / 0 WHERE :address <> ''"), {"address": "someone@example.com"})
    assert "division by zero" in str(failed.value)
    assert "someone" not in str(failed.value)

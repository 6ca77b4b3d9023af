"""Asking the API over HTTP: what a refusal looks like, and everybody at once."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import httpx

from core.db import transaction
from tests.support import factories as make
from tests.support.factories import People
from tests.support.processes import Api

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Clients:
    """People of a test's own, each with a client."""

    api: Api
    people: People

    def by(self, role: str) -> httpx.Client:
        """The client of the person with this role."""
        return self.api.as_user(self.people.ids[role], role)

    @property
    def admin(self) -> httpx.Client:
        """The admin's client."""
        return self.by("admin")

    @property
    def recruiter(self) -> httpx.Client:
        """The recruiter's client."""
        return self.by("recruiter")

    @property
    def interviewer(self) -> httpx.Client:
        """The interviewer's client."""
        return self.by("interviewer")

    @property
    def candidate(self) -> httpx.Client:
        """The candidate's client."""
        return self.by("candidate")

    def new_session(self, **more: Any) -> dict[str, Any]:
        """The body that makes a session of these people."""
        return {"candidate_id": self.people.candidate_id, "interview_id": self.people.interview_id, **more}


def new_clients(api: Api, *, questions: int = 0, **interview: Any) -> Clients:
    """New people, and their clients."""
    with transaction() as db:
        return Clients(api, make.people(db, questions=questions, **interview))


def refused(answer: httpx.Response, status: int, *says: object) -> dict[str, Any]:
    """The problem document of a refusal with this status, whose detail says all this."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert body["status"] == status
    assert body["title"]
    assert body["type"] == "about:blank"
    for word in says:
        assert str(word) in body["detail"]
    return body


def names(answer: httpx.Response, *fields: str) -> dict[str, Any]:
    """The problem document of a 422 that names exactly these fields, each with a reason."""
    body = refused(answer, 422, *fields)
    assert sorted(error["field"] for error in body["errors"]) == sorted(fields)
    assert all(error["reason"] for error in body["errors"])
    return body


def json_body(answer: httpx.Response, status: int = 200) -> dict[str, Any]:
    """The body of an answer that has this status."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    body: dict[str, Any] = answer.json()
    return body


def all_at_once(call: Callable[[T], R], of: Iterable[T]) -> list[R]:
    """The answers to everything asked at the same time."""
    wanted = list(of)
    with ThreadPoolExecutor(len(wanted)) as everybody:
        return list(everybody.map(call, wanted))


def soon(**more: float) -> str:
    """A moment to come, as JSON has it; by default an hour from now."""
    return (datetime.now(UTC) + timedelta(**(more or {"hours": 1}))).isoformat()

"""Users and candidates: created and changed by staff."""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, time
from typing import TypeVar, cast
from uuid import UUID

from psycopg import errors as pg
from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from core import outbox, reminders
from core.errors import Conflict, Forbidden, Invalid, NotFound
from core.events import AccountChanged
from core.fields import Address, Id, Input, Line, Moment, Zone, changed_fields
from core.models import Candidate, Role, User
from core.viewers import STAFF, Viewer, require

Person = TypeVar("Person", User, Candidate)


class NewUser(Input):
    """A user to create."""

    email: Address
    name: Line
    role: Role
    timezone: Zone = "UTC"
    quiet_from: time | None = None
    quiet_until: time | None = None


class UserPatch(Input):
    """The fields of a user that may be changed; a raised ``token_version`` revokes tokens and closes sockets."""

    email: Address | None = None
    name: Line | None = None
    role: Role | None = None
    timezone: Zone | None = None
    quiet_from: time | None = None
    quiet_until: time | None = None
    token_version: Id | None = None


class NewCandidate(Input):
    """A candidate to create."""

    email: Address
    name: Line
    timezone: Zone = "UTC"
    source: Line | None = None
    user_id: Id | None = None
    applied_at: Moment | None = None


class CandidatePatch(Input):
    """The fields of a candidate that may be changed."""

    email: Address | None = None
    name: Line | None = None
    timezone: Zone | None = None
    source: Line | None = None
    user_id: Id | None = None
    applied_at: Moment | None = None
    hired_at: Moment | None = None
    withdrawn_at: Moment | None = None


_HOURS = {"timezone", "quiet_from", "quiet_until"}
_NULLABLE = {"quiet_from", "quiet_until", "source", "user_id", "applied_at", "hired_at", "withdrawn_at"}


def create_user(db: Session, given: NewUser, *, by: Viewer) -> User:
    """Create a user. Raises Forbidden, and Conflict when a user who is not deleted has the address."""
    require(by, *STAFF)
    _check_may_assign(by, given.role)
    _check_quiet(given.quiet_from, given.quiet_until)
    user = User(**given.model_dump())
    with _one_address(db, User, given.email):
        db.add(user)
        db.flush()
    db.refresh(user)
    return user


def change_user(db: Session, user_id: int, given: UserPatch, *, by: Viewer, now: datetime) -> User:
    """Change a user; a new role or token version closes their sockets, new quiet hours or zone move their reminders.

    Raises what ``create_user`` raises, and NotFound.
    """
    require(by, *STAFF)
    named = changed_fields(given, _NULLABLE)

    def lock_row() -> User:
        return _existing(db, User, user_id, "user", lock=True)

    reminded: Collection[UUID] = ()
    if named.keys() & _HOURS:
        user, reminded = reminders.lock_user(db, user_id, lock_row)
    else:
        user = lock_row()
    _check_may_assign(by, user.role)
    if "role" in named:
        _check_may_assign(by, named["role"])
    version = named.get("token_version")
    if version is not None:
        if version <= user.token_version or version > 2**31 - 1:
            raise Invalid("token_version", f"can only be raised; it is {user.token_version}")
        named["token_raised_at"] = now
    ends = version is not None or ("role" in named and named["role"] != user.role)
    with _one_address(db, User, named.get("email")):
        for name, value in named.items():
            setattr(user, name, value)
        _check_quiet(user.quiet_from, user.quiet_until)
        db.flush()
    reminders.replan_for_quiet_hours(db, reminded, now=now)
    if ends:
        outbox.publish(
            db, AccountChanged(user_id=user.id, token_version=user.token_version, role=cast(Role, user.role))
        )
    return user


def create_candidate(db: Session, given: NewCandidate, *, by: Viewer, now: datetime) -> Candidate:
    """Create a candidate. Raises Forbidden, Invalid, and Conflict when one who is not deleted has the address."""
    require(by, *STAFF)
    _check_sign_in(db, given.user_id)
    candidate = Candidate(**given.model_dump() | {"applied_at": given.applied_at or now})
    with _one_address(db, Candidate, given.email, given.user_id):
        db.add(candidate)
        db.flush()
    db.refresh(candidate)
    return candidate


def change_candidate(db: Session, candidate_id: int, given: CandidatePatch, *, by: Viewer, now: datetime) -> Candidate:
    """Change a candidate; reminders follow the quiet hours of a new ``user_id``.

    Raises what ``create_candidate`` raises, and NotFound.
    """
    require(by, *STAFF)
    named = changed_fields(given, _NULLABLE)

    def lock_row() -> Candidate:
        return _existing(db, Candidate, candidate_id, "candidate", lock=True)

    reminded: Collection[UUID] = ()
    if "user_id" in named:
        candidate, reminded = reminders.lock_candidate(db, candidate_id, lock_row)
    else:
        candidate = lock_row()
    _check_sign_in(db, named.get("user_id"))
    with _one_address(db, Candidate, named.get("email"), named.get("user_id")):
        for name, value in named.items():
            setattr(candidate, name, value)
        db.flush()
    reminders.replan_for_quiet_hours(db, reminded, now=now)
    return candidate


def get_user(db: Session, user_id: int, *, by: Viewer) -> User:
    """One user who is not deleted. Raises Forbidden and NotFound."""
    require(by, *STAFF)
    return _existing(db, User, user_id, "user")


def get_candidate(db: Session, candidate_id: int, *, by: Viewer) -> Candidate:
    """One candidate who is not deleted. Raises Forbidden and NotFound."""
    require(by, *STAFF)
    return _existing(db, Candidate, candidate_id, "candidate")


def users(db: Session, *, by: Viewer, role: Role | None, after: int, limit: int) -> Sequence[User]:
    """Users who are not deleted, by id, after the given one."""
    require(by, *STAFF)
    query = select(User).where(User.deleted_at.is_(None), User.id > after).order_by(User.id).limit(limit)
    return db.scalars(query.where(User.role == role) if role else query).all()


def candidates(db: Session, *, by: Viewer, after: int, limit: int) -> Sequence[Candidate]:
    """Candidates who are not deleted, by id, after the given one."""
    require(by, *STAFF)
    query = select(Candidate).where(Candidate.deleted_at.is_(None), Candidate.id > after)
    return db.scalars(query.order_by(Candidate.id).limit(limit)).all()


def _existing(db: Session, model: type[Person], id_: int, noun: str, *, lock: bool = False) -> Person:
    query = select(model).where(model.id == id_, model.deleted_at.is_(None))
    found = db.scalar(query.with_for_update() if lock else query)
    if found is None:
        raise NotFound(noun, id_)
    return found


def _check_may_assign(by: Viewer, role: str) -> None:
    if by.role != "admin" and role in STAFF:
        raise Forbidden(f"Only an admin makes or changes a user who is {role}.")


def _check_quiet(start: time | None, end: time | None) -> None:
    if (start is None) != (end is None):
        raise Invalid("quiet_from" if start is None else "quiet_until", "quiet hours need both ends, or neither")
    for name, at in (("quiet_from", start), ("quiet_until", end)):
        if at is not None and at.tzinfo is not None:
            raise Invalid(name, "is a time of day in the user's own zone, without an offset")


def _check_sign_in(db: Session, user_id: int | None) -> None:
    if user_id is None:
        return
    role = db.scalar(select(User.role).where(User.id == user_id, User.deleted_at.is_(None)))
    if role != "candidate":
        reason = f"user {user_id} is {role}, not a candidate" if role else f"there is no user {user_id}"
        raise Invalid("user_id", reason)


@contextmanager
def _one_address(
    db: Session, model: type[User] | type[Candidate], email: str | None, user_id: int | None = None
) -> Iterator[None]:
    """A savepoint that turns a duplicate address or ``user_id`` into a Conflict that names the other row."""
    try:
        with db.begin_nested():
            yield
    except IntegrityError as error:
        if not isinstance(error.orig, pg.UniqueViolation):
            raise
        noun = "user" if model is User else "candidate"
        if error.orig.diag.constraint_name == "candidates_user_id_key":
            other = db.scalar(select(Candidate.id).where(Candidate.user_id == user_id))
            raise Conflict(f"Candidate {other} already signs in as user {user_id}.", candidate_id=other) from error
        same = func.lower(model.email) == func.lower(email)
        other = db.scalar(select(model.id).where(same, model.deleted_at.is_(None)))
        raise Conflict(f"The {noun} {other} already has the address {email}.", **{f"{noun}_id": other}) from error

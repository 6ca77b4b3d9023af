"""Notification preferences: by user, category and channel (in the app, by mail)."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final, Literal

from pydantic import BaseModel, field_validator
from sqlalchemy import select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from core.db import array
from core.errors import Invalid
from core.fields import Input
from core.models import ROLES, NotificationPreference, Role
from core.viewers import Viewer

Channel = Literal["in_app", "email"]
Delivery = Literal["instant", "off"]


@dataclass(frozen=True, slots=True)
class Category:
    """One category of notifications: which roles receive it, on which channels, and the default of each channel.

    Categories about one's own interview time (``own_time``) cannot be turned off by candidates and interviewers.
    """

    roles: tuple[Role, ...]
    channels: tuple[Channel, ...] = ("in_app",)
    own_time: bool = False
    off_by_default: tuple[Channel, ...] = ()


_PARTIES: Final[tuple[Role, ...]] = ("interviewer", "candidate")
_TEAM: Final[tuple[Role, ...]] = ("recruiter", "interviewer")
_STAFF: Final[tuple[Role, ...]] = ("admin", "recruiter")
_BOTH: Final[tuple[Channel, ...]] = ("in_app", "email")

CATEGORIES: Final[dict[str, Category]] = {
    "invited": Category(_PARTIES, _BOTH, own_time=True),
    "scheduled": Category(_PARTIES, _BOTH, own_time=True),
    "rescheduled": Category(("recruiter", *_PARTIES), _BOTH, own_time=True),
    "cancelled": Category(("recruiter", *_PARTIES), _BOTH, own_time=True),
    "reminder": Category(_PARTIES, _BOTH, own_time=True),
    "late": Category(_PARTIES, own_time=True),
    "no_show": Category(_TEAM),
    "abandoned": Category(_TEAM),
    "expired": Category(_TEAM),
    "completed": Category(("recruiter", *_PARTIES), _BOTH),
    "feedback_overdue": Category(_TEAM),
    "report_ready": Category(_STAFF, _BOTH),
    "report_failed": Category(_STAFF),
    "daily_report": Category(_STAFF, _BOTH, off_by_default=("email",)),
    "job_late": Category(("admin",)),
    "job_back": Category(("admin",)),
    "job_failed": Category(("admin",)),
    "mail_dead": Category(("admin",)),
    "mail_uncertain": Category(("admin",)),
    "announcement": Category(ROLES),
}
"""Every category of notifications (docs/domain.md, "Who is notified"); announcements are written by staff."""

_UNLISTED: Final = Category(ROLES)
OPTIONAL_MAILS: Final = tuple(
    name for name, category in CATEGORIES.items() if "email" in category.channels and not category.own_time
)
"""Categories whose mails may be turned off."""


def is_mandatory(category: str) -> bool:
    """Whether notifications of this category reach a person they are addressed to whatever the preferences."""
    return CATEGORIES.get(category, _UNLISTED).own_time


def may_turn_off(category: str, role: Role) -> bool:
    """Whether a user of this role may turn the category off: not when it is about their own interview time."""
    return not (is_mandatory(category) and role in _PARTIES)


def is_enabled(db: Session, user_id: int, category: str, channel: Channel) -> bool:
    """Whether this user receives notifications addressed to them, of this category, on this channel."""
    return not find_turned_off(db, [(user_id, category)], channel)


def find_turned_off(db: Session, pairs: Collection[tuple[int, str]], channel: Channel) -> set[tuple[int, str]]:
    """The pairs of user and category that are turned off on this channel, found by one query.

    Runs no query when none of the categories can be turned off.
    """
    optional = {pair for pair in pairs if not is_mandatory(pair[1])}
    if not optional:
        return set()
    users, categories = (sorted(set(values)) for values in zip(*optional, strict=True))
    found = db.execute(_PREFERENCES, {"users": array(users), "categories": array(categories), "channel": channel})
    stored: dict[tuple[int, str], str] = {(user_id, category): delivery for user_id, category, delivery in found}
    return {pair for pair in optional if stored.get(pair, _default(pair[1], channel)) == "off"}


_PREFERENCES = text("""
    SELECT user_id, category, delivery FROM notification_preferences
    WHERE user_id = ANY(CAST(:users AS bigint[])) AND category = ANY(CAST(:categories AS text[]))
        AND channel = :channel
""")


def _default(category: str, channel: Channel) -> Delivery:
    return "off" if channel in CATEGORIES.get(category, _UNLISTED).off_by_default else "instant"


class Preference(BaseModel):
    """One user's preference for one category; null: the category never uses that channel."""

    category: str
    in_app: Delivery | None
    email: Delivery | None
    may_turn_off: bool


class PreferenceChange(Input):
    """A change to one category, on the channels it names; accepts a ``Preference`` as it was returned, too."""

    category: str
    in_app: Delivery | None = None
    email: Delivery | None = None
    may_turn_off: bool | None = None

    @field_validator("category")
    @classmethod
    def _known(cls, value: str) -> str:
        if value not in CATEGORIES:
            raise ValueError(f"there is no category {value!r}; there are {', '.join(CATEGORIES)}")
        return value


def for_viewer(db: Session, viewer: Viewer) -> list[Preference]:
    """The viewer's preferences, for every category that their role receives."""
    p = NotificationPreference
    rows = db.execute(select(p.category, p.channel, p.delivery).where(p.user_id == viewer.id))
    stored: dict[tuple[str, str], Delivery] = {(category, channel): delivery for category, channel, delivery in rows}

    def delivery(name: str, channel: Channel) -> Delivery | None:
        if channel not in CATEGORIES[name].channels:
            return None
        if not may_turn_off(name, viewer.role):
            return "instant"
        return stored.get((name, channel), _default(name, channel))

    return [
        Preference(
            category=name,
            in_app=delivery(name, "in_app"),
            email=delivery(name, "email"),
            may_turn_off=may_turn_off(name, viewer.role),
        )
        for name, category in CATEGORIES.items()
        if viewer.role in category.roles
    ]


def update(db: Session, given: Collection[PreferenceChange], *, by: Viewer) -> None:
    """Store the viewer's changes; categories and channels that they do not name stay as they are.

    Raises Invalid for a category that cannot be turned off, never uses that channel, or is not for the viewer's role.
    """
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for place, change in enumerate(given):
        for channel, delivery in (("in_app", change.in_app), ("email", change.email)):
            if delivery is None:
                continue
            _check(f"items.{place}", change.category, channel, delivery, by.role)
            row = {"user_id": by.id, "category": change.category, "channel": channel, "delivery": delivery}
            rows[change.category, channel] = row
    if not rows:
        return
    # Sorted, so that two requests of one user lock the same rows in the same order.
    statement = insert(NotificationPreference).values([row for _, row in sorted(rows.items())])
    key = ("user_id", "category", "channel")
    db.execute(statement.on_conflict_do_update(index_elements=key, set_={"delivery": statement.excluded.delivery}))


def _check(field: str, name: str, channel: str, delivery: Delivery, role: Role) -> None:
    category = CATEGORIES[name]
    if role not in category.roles:
        raise Invalid(f"{field}.category", f"{name} is not for the role {role}")
    if channel not in category.channels:
        raise Invalid(f"{field}.{channel}", f"{name} never comes by {channel}")
    if delivery == "off" and not may_turn_off(name, role):
        raise Invalid(f"{field}.{channel}", f"{name} is about your own interview time and cannot be turned off")

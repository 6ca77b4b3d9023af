"""What people want to be told and how: each category, in the app and by mail."""

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
    """One kind of thing that people are told: which roles, on which channels, and what holds unless they say otherwise.

    What is about one's own interview time cannot be turned off by those whose time it is.
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
"""Everything the house tells people (DOMAIN, "Who is told what"); announcements are what staff write themselves."""

_FREE: Final = Category(ROLES)
OPTIONAL_MAILS: Final = tuple(
    name for name, category in CATEGORIES.items() if "email" in category.channels and not category.own_time
)
"""Categories of which somebody may get no mails."""


def always(category: str) -> bool:
    """Whether what is addressed to one person in this category reaches them whatever they prefer."""
    return CATEGORIES.get(category, _FREE).own_time


def may_turn_off(category: str, role: Role) -> bool:
    """Whether somebody of this role may turn the category off: only what is not about their own interview time."""
    return not (always(category) and role in _PARTIES)


def wants(db: Session, user_id: int, category: str, channel: Channel) -> bool:
    """Whether to tell this user, by themselves, of something in this category on this channel."""
    return not unwanted(db, [(user_id, category)], channel)


def unwanted(db: Session, wished: Collection[tuple[int, str]], channel: Channel) -> set[tuple[int, str]]:
    """Those of the pairs of user and category that are not to be told on this channel, in one query.

    Without any query when nothing among them can be turned off.
    """
    optional = {pair for pair in wished if not always(pair[1])}
    if not optional:
        return set()
    users, categories = (sorted(set(values)) for values in zip(*optional, strict=True))
    found = db.execute(_WISHES, {"users": array(users), "categories": array(categories), "channel": channel})
    wishes: dict[tuple[int, str], str] = {(user_id, category): delivery for user_id, category, delivery in found}
    return {pair for pair in optional if wishes.get(pair, _default(pair[1], channel)) == "off"}


_WISHES = text("""
    SELECT user_id, category, delivery FROM notification_preferences
    WHERE user_id = ANY(CAST(:users AS bigint[])) AND category = ANY(CAST(:categories AS text[]))
        AND channel = :channel
""")


def _default(category: str, channel: Channel) -> Delivery:
    return "off" if channel in CATEGORIES.get(category, _FREE).off_by_default else "instant"


class Preference(BaseModel):
    """What one user gets of one category; null: it does not come that way at all."""

    category: str
    in_app: Delivery | None
    email: Delivery | None
    may_turn_off: bool


class Wish(Input):
    """A change to one category: the channels it names. What is shown may be given back as it was."""

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


def of(db: Session, viewer: Viewer) -> list[Preference]:
    """The viewer's preferences: every category that people of their role are told of."""
    p = NotificationPreference
    rows = db.execute(select(p.category, p.channel, p.delivery).where(p.user_id == viewer.id))
    wishes: dict[tuple[str, str], Delivery] = {(category, channel): delivery for category, channel, delivery in rows}

    def delivery(name: str, channel: Channel) -> Delivery | None:
        if channel not in CATEGORIES[name].channels:
            return None
        if not may_turn_off(name, viewer.role):
            return "instant"
        return wishes.get((name, channel), _default(name, channel))

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


def change(db: Session, given: Collection[Wish], *, by: Viewer) -> None:
    """Keep the viewer's wishes; categories and channels they do not name stay as they are.

    Raises Invalid for what cannot be turned off, does not come on that channel, or is not for their role.
    """
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for place, wish in enumerate(given):
        for channel, delivery in (("in_app", wish.in_app), ("email", wish.email)):
            if delivery is None:
                continue
            _check(f"items.{place}", wish.category, channel, delivery, by.role)
            row = {"user_id": by.id, "category": wish.category, "channel": channel, "delivery": delivery}
            rows[wish.category, channel] = row
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

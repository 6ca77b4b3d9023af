"""What can be turned off, by whom, and what that does."""

from uuid import uuid4

import pytest
from sqlalchemy import text

from core import notifications, preferences
from core.clock import utcnow
from core.db import transaction
from core.errors import Invalid
from core.models import Email, Role
from core.notifications import job_failed, job_late, job_recovered, notify
from core.notifications.system import notify_mail_trouble
from core.preferences import CATEGORIES, PreferenceChange
from tests.support import factories as make
from tests.support.factories import People
from tests.support.notifications import inbox, new_notice, pushed_to, send_notices, unread
from tests.support.processes import Database


@pytest.fixture
def people(shared_database: Database) -> People:
    """People of this test's own, who were added after all earlier notifications."""
    with transaction() as db:
        return make.people(db)


@pytest.fixture
def others(shared_database: Database) -> People:
    """More of them."""
    with transaction() as db:
        return make.people(db)


def wish(people: People, role: str, category: str, **channels: str) -> None:
    with transaction() as db:
        given = [PreferenceChange(category=category, **channels)]  # type: ignore[arg-type]
        notifications.change_preferences(db, given, by=people.viewer(role))


def test_a_category_turned_off_is_neither_counted_nor_pushed_nor_listed(people: People) -> None:
    wish(people, "candidate", "completed", in_app="off")
    assert (
        send_notices(
            new_notice(user_id=people.ids["candidate"]), new_notice("scheduled", user_id=people.ids["candidate"])
        )
        == 2
    )
    (kept,) = inbox(people, "candidate")
    assert pushed_to(people, "candidate") == [("unread", 0), ("created", kept), ("unread", 1)]
    wish(people, "candidate", "completed", in_app="instant")
    assert unread(people, "candidate") == [1]
    send_notices(new_notice(user_id=people.ids["candidate"]))
    assert unread(people, "candidate") == [2]


def test_a_broadcast_turned_off_leaves_that_users_inbox_and_count_alone(people: People, others: People) -> None:
    with transaction() as db:
        notify(db, [new_notice("no_show", role="recruiter"), new_notice("cancelled", role="recruiter")], now=utcnow())
    assert unread(people, "recruiter") == [2]
    wish(people, "recruiter", "no_show", in_app="off")
    assert pushed_to(people, "recruiter") == [("unread", 1)]
    assert len(inbox(people, "recruiter")) == 1
    wish(people, "recruiter", "cancelled", in_app="off")
    assert unread(people, "recruiter", "admin") == [0, 0]
    assert unread(others, "recruiter") == [2]


@pytest.mark.parametrize("category", [name for name, category in CATEGORIES.items() if category.own_time])
@pytest.mark.parametrize("role", ["interviewer", "candidate"])
def test_ones_own_interview_time_cannot_be_turned_off(people: People, role: Role, category: str) -> None:
    for channel in CATEGORIES[category].channels:
        with pytest.raises(Invalid, match="own interview time"):
            wish(people, role, category, **{channel: "off"})
        # Whatever a table of wishes may hold from when they had another role.
        with transaction() as db:
            db.execute(
                text("INSERT INTO notification_preferences VALUES (:u, :c, :ch, 'off')"),
                {"u": people.ids[role], "c": category, "ch": channel},
            )
            assert preferences.is_enabled(db, people.ids[role], category, channel)
    send_notices(new_notice(category, user_id=people.ids[role]))
    assert unread(people, role) == [1]


def test_which_categories_each_role_may_turn_off(people: People) -> None:
    """docs/domain.md, "Preferences": each category is for the roles of its row, and only their own time is fixed."""
    expected = {
        "admin": {
            "report_ready", "report_failed", "daily_report", "job_late", "job_back", "job_failed", "mail_dead",
            "mail_uncertain", "announcement",
        },
        "recruiter": {
            "rescheduled", "cancelled", "no_show", "abandoned", "expired", "completed", "feedback_overdue",
            "report_ready", "report_failed", "daily_report", "announcement",
        },
        "interviewer": {"no_show", "abandoned", "expired", "completed", "feedback_overdue", "announcement"},
        "candidate": {"completed", "announcement"},
    }  # fmt: skip
    fixed = {"invited", "scheduled", "rescheduled", "cancelled", "reminder", "late"}
    for role, categories in expected.items():
        with transaction() as db:
            shown = {one.category: one for one in preferences.for_viewer(db, people.viewer(role))}
        assert {name for name, one in shown.items() if one.may_turn_off} == categories
        always = {name for name, one in shown.items() if not one.may_turn_off}
        assert always == (fixed if role in ("interviewer", "candidate") else set())


def test_admins_may_turn_off_system_categories(people: People, others: People) -> None:
    for one in ("job_late", "job_back", "job_failed", "mail_dead", "mail_uncertain"):
        wish(people, "admin", one, in_app="off")
    run = uuid4()
    with transaction() as db:
        late, back = (words(run, f"a job {run}", since=None) for words in (job_late, job_recovered))
        notify(db, [late, back, job_failed(run, "a job")], now=utcnow())
        for status in ("dead", "uncertain"):
            notify_mail_trouble(db, db.get_one(Email, make.email(db, now=utcnow(), status=status)), now=utcnow())
    assert unread(people, "admin") == [0]
    assert unread(others, "admin") == [5]


def test_daily_reports_are_mailed_to_subscribers(people: People) -> None:
    def wants(role: str) -> bool:
        with transaction() as db:
            return preferences.is_enabled(db, people.ids[role], "daily_report", "email")

    assert not wants("recruiter")
    wish(people, "recruiter", "daily_report", email="instant")
    assert wants("recruiter")
    wish(people, "recruiter", "daily_report", email="off")
    assert not wants("recruiter")
    with pytest.raises(Invalid, match="not for the role"):
        wish(people, "candidate", "daily_report", email="instant")
    with pytest.raises(Invalid, match="never comes by email"):
        wish(people, "recruiter", "no_show", email="instant")


def test_preferences_of_many_users_are_one_query(people: People, others: People) -> None:
    wish(people, "candidate", "completed", email="off")
    pairs = [
        (who.ids["candidate"], category)
        for who in (people, others)
        for category in ("completed", "announcement", "daily_report", "reminder", "of their own making")
    ]
    with transaction() as db:
        assert preferences.find_turned_off(db, pairs, "email") == {
            (people.ids["candidate"], "completed"),
            (people.ids["candidate"], "daily_report"),
            (others.ids["candidate"], "daily_report"),
        }
        assert preferences.find_turned_off(db, pairs, "in_app") == set()

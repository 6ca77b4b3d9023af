"""Invitations as a calendar reads them: parsed by a library that did not write them."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import vobject
from hypothesis import given
from hypothesis import strategies as st

from core.emails.addresses import one_line
from core.emails.content import Recruiter, SessionDetails, render
from core.emails.draft import Recipient
from tests.support.mail_samples import IRIS, MAYA, NOW, OPEN, START, a_session, called


def calendar(kind: str, session: SessionDetails, recipient: Recipient, *, now: datetime = NOW) -> Any:
    """The calendar that goes with a mail, read by vobject; no line is longer than RFC 5545 wants."""
    (file,) = render(kind, session, recipient, now=now).attachments
    lines = file.content.split(b"\r\n")
    assert b"\n" not in b"".join(lines) and max(map(len, lines)) <= 75
    found = vobject.readOne(file.content.decode())
    assert len(found.vevent_list) == 1
    assert f"method={found.method.value}" in file.content_type
    return found


def test_an_invitation_has_time_people_and_url() -> None:
    found = calendar("invitation", a_session(), MAYA)
    e = found.vevent
    assert (found.version.value, found.method.value) == ("2.0", "REQUEST")
    assert (e.uid.value, e.sequence.value, e.status.value) == ("7@greenroom", "0", "CONFIRMED")
    assert (e.dtstart.value, e.dtend.value, e.dtstamp.value) == (START, START + timedelta(hours=1), NOW)
    assert e.summary.value == "Interview: Backend Engineer"
    assert e.url.value in e.description.value and e.url.value.startswith("http://localhost:8080/")
    assert e.organizer.value == "mailto:rita@example.com" and e.organizer.params["CN"] == ["Rita Sørensen"]
    assert e.organizer.params["SENT-BY"] == ["mailto:greenroom@localhost"]
    assert [a.value for a in e.attendee_list] == ["mailto:maya@example.com"]
    assert e.attendee.params["RSVP"] == ["TRUE"] and e.attendee.params["PARTSTAT"] == ["NEEDS-ACTION"]


def test_an_interviewer_sees_who_takes_part_and_a_candidate_gets_no_addresses_of_staff() -> None:
    theirs = calendar("invitation", a_session(), IRIS).vevent
    assert [a.value for a in theirs.attendee_list] == ["mailto:iris@example.com", "mailto:maya@example.com"]
    assert theirs.summary.value == "Interview with Maya Lindqvist: Backend Engineer"
    assert b"iris@" not in render("invitation", a_session(), MAYA, now=NOW).attachments[0].content


def test_a_reschedule_updates_the_event_and_a_cancellation_removes_it() -> None:
    first = calendar("invitation", a_session(), MAYA).vevent
    later = a_session(
        ics_sequence=1, scheduled_start=START + timedelta(days=1), scheduled_end=START + timedelta(days=1, hours=1)
    )
    second = calendar("reschedule", later, MAYA, now=NOW + timedelta(hours=1))
    gone = calendar("cancellation", later._replace(status="cancelled"), MAYA, now=NOW + timedelta(hours=2))
    assert {e.uid.value for e in (first, second.vevent, gone.vevent)} == {"7@greenroom"}
    assert [e.sequence.value for e in (first, second.vevent, gone.vevent)] == ["0", "1", "2"]
    assert {e.organizer.value for e in (first, second.vevent, gone.vevent)} == {"mailto:rita@example.com"}
    assert (second.method.value, second.vevent.dtstart.value) == ("REQUEST", START + timedelta(days=1))
    assert (gone.method.value, gone.vevent.status.value) == ("CANCEL", "CANCELLED")
    assert "RSVP" not in gone.vevent.attendee.params


def test_a_reminder_has_the_same_event_without_a_request_to_reply() -> None:
    found = calendar("reminder", a_session(ics_sequence=3), MAYA)
    assert (found.method.value, found.vevent.uid.value, found.vevent.sequence.value) == ("PUBLISH", "7@greenroom", "3")
    assert "attendee" not in found.vevent.contents  # RFC 5546, section 3.2.1


@pytest.mark.parametrize("kind", ["invitation", "reschedule", "cancellation", "reminder"])
def test_without_a_time_there_is_no_event(kind: str) -> None:
    assert render(kind, a_session(**OPEN), MAYA, now=NOW).attachments == ()


def test_the_organizer_is_the_recruiter_or_the_system() -> None:
    alone = calendar("invitation", a_session(recruiter=None), MAYA).vevent
    assert alone.organizer.value == "mailto:greenroom@localhost"
    # a calendar ignores an update of another organizer
    left = calendar("reschedule", a_session(recruiter=Recruiter("Rita", "rita@example.com", deleted=True)), MAYA).vevent
    assert left.organizer.value == "mailto:rita@example.com"


@given(name=st.text(max_size=120), position=st.text(max_size=120))
def test_names_cannot_inject_lines_or_parameters(name: str, position: str) -> None:
    session = a_session(
        candidate=called(MAYA, name), position=position, recruiter=Recruiter(name, "r@example.com", deleted=False)
    )
    e = calendar("invitation", session, IRIS).vevent
    names = ["uid", "sequence", "dtstamp", "dtstart", "dtend", "summary", "description", "location", "url", "status"]
    assert set(e.contents) == {*names, "organizer", "attendee"}
    assert e.organizer.value == "mailto:r@example.com" and len(e.attendee_list) == 2
    assert set(e.organizer.params) <= {"CN", "SENT-BY"}
    assert set(e.attendee_list[1].params) <= {"CN", "CUTYPE", "ROLE", "PARTSTAT", "RSVP"}
    assert one_line(position).split(" ")[0] in e.summary.value


def test_international_people_are_attendees_too() -> None:
    wide = Recipient("面接@例え.テスト", "面接 太郎", "Asia/Tokyo", "candidate")
    e = calendar("invitation", a_session(candidate=wide), wide).vevent
    assert e.attendee.value == "mailto:%E9%9D%A2%E6%8E%A5@xn--r8jz45g.xn--zckzah"
    assert e.attendee.params["CN"] == ["面接 太郎"]
    assert e.dtstart.value.tzinfo is not None and e.dtstart.value.astimezone(UTC) == START

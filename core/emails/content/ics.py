"""A session as a calendar event (RFC 5545), sent as iTIP messages (RFC 5546)."""

from datetime import UTC, datetime
from urllib.parse import quote

from icalendar import Calendar, Event, vCalAddress, vText

from core.emails.addresses import default_sender, envelope, one_line, valid_address
from core.emails.content.session_details import SessionDetails, party_of
from core.emails.draft import Attachment, Recipient
from core.emails.kinds import CalendarMethod


def calendar(
    method: CalendarMethod,
    about: SessionDetails,
    recipient: Recipient,
    *,
    summary: str,
    description: str,
    url: str,
    now: datetime,
) -> Attachment | None:
    """The recipient's copy of the event; None when the session has no time.

    UID and SEQUENCE are the session's, so that a later message changes the event of an earlier one. Times are in UTC,
    which every calendar shows in its owner's zone. The organizer is the recruiter, who gets the replies. Interviewers
    see the candidate as attendee; candidates do not get the addresses of the staff.
    """
    if about.scheduled_start is None or about.scheduled_end is None:
        return None
    event = Event()
    event.add("uid", about.ics_uid)
    # RFC 5546, section 2.1.4: CANCEL increments it; for a removal notice the reschedule has already done so in the row
    event.add("sequence", about.ics_sequence + (about.status == "cancelled"))
    event.add("dtstamp", now.astimezone(UTC))
    event.add("dtstart", about.scheduled_start.astimezone(UTC))
    event.add("dtend", about.scheduled_end.astimezone(UTC))
    event.add("summary", one_line(summary))
    event.add("description", description)
    event.add("location", "Online")
    event.add("url", url)
    event.add("status", "CANCELLED" if method == "CANCEL" else "CONFIRMED")
    event["organizer"] = _organizer(about)
    # RFC 5546, section 3.2.1: PUBLISH has no attendees
    for one in _attendees(about, recipient) if method != "PUBLISH" else ():
        event.add("attendee", _attendee(one, method), encode=False)

    message = Calendar()
    message.add("prodid", "-//Greenroom//Interviews//EN")
    message.add("version", "2.0")
    message.add("method", method)
    message.add_component(event)
    name = {"REQUEST": "invite.ics", "CANCEL": "cancel.ics", "PUBLISH": "interview.ics"}[method]
    return Attachment(name, f"text/calendar; charset=utf-8; method={method}", message.to_ical())


def _attendees(about: SessionDetails, recipient: Recipient) -> tuple[Recipient, ...]:
    both = party_of(about, recipient) == "interviewer" and valid_address(about.candidate.address)
    return (recipient, about.candidate) if both else (recipient,)


def _organizer(about: SessionDetails) -> vCalAddress:
    sender = default_sender()
    if about.recruiter is None or not valid_address(about.recruiter.address):
        return _person(sender.address, sender.name)
    organizer = _person(about.recruiter.address, about.recruiter.name)
    organizer.params["SENT-BY"] = _mailto(sender.address)
    return organizer


def _attendee(one: Recipient, method: CalendarMethod) -> vCalAddress:
    attendee = _person(one.address, one.name or "")
    attendee.params["CUTYPE"] = "INDIVIDUAL"
    attendee.params["ROLE"] = "REQ-PARTICIPANT"
    if method == "REQUEST":
        attendee.params["PARTSTAT"] = "NEEDS-ACTION"
        attendee.params["RSVP"] = "TRUE"
    return attendee


def _person(address: str, name: str) -> vCalAddress:
    person = vCalAddress(_mailto(address))
    if name:
        # a parameter's value cannot contain a double quote, not even an escaped one
        person.params["CN"] = vText(one_line(name, 100).replace('"', "'"))
    return person


def _mailto(address: str) -> str:
    return "mailto:" + quote(envelope(address).address, safe="@!$&'*+/=?^_`{|}~.-")

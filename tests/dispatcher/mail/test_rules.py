"""The rules of sending, without a server: the table of outcomes, SMTP's answers, the server's URL, the dots."""

import os
import socket
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.emails.kinds import EmailKind
from core.emails.queue.outcomes import (
    ATTEMPTS,
    DELAYS,
    NO_SUCH_MAILBOX,
    RESENT_WHEN_UNCERTAIN,
    AttemptResult,
    Decision,
    Reply,
    Stage,
    describe,
    retry_policy,
)
from core.errors import BadSettings
from core.settings import load
from dispatcher.mail.server import MailServer
from dispatcher.mail.smtp import LINE_BYTES, Connection, Failed, stuffed

STAGES: tuple[Stage, ...] = ("connect", "sender", "recipient", "data", "dot")
KINDS: tuple[EmailKind, ...] = (
    "generic",
    "invitation",
    "reschedule",
    "cancellation",
    "reminder",
    "completion",
    "report",
)
stages, kinds = st.sampled_from(STAGES), st.sampled_from(KINDS)
attempts = st.integers(1, ATTEMPTS + 2)
texts = st.text(max_size=30) | st.sampled_from(["5.1.1 no such user", "5.7.1 not for you", "4.2.2 full", ""])


def replies(low: int, high: int) -> st.SearchStrategy[Reply]:
    return st.builds(Reply, st.integers(low, high), texts)


def test_the_delays_are_those_of_the_rules() -> None:
    assert [retry_policy(AttemptResult("data", Reply(451)), "generic", n).delay for n in range(1, 6)] == [
        timedelta(minutes=m) for m in (1, 5, 15, 60, 180)
    ]
    assert retry_policy(AttemptResult("data", Reply(451)), "generic", 6) == Decision("dead")
    assert all(one < other for one, other in pairwise(DELAYS))


@given(kinds, attempts, replies(200, 299))
def test_only_an_answer_of_2xx_to_the_final_dot_is_sent(kind: EmailKind, attempt: int, reply: Reply) -> None:
    assert retry_policy(AttemptResult("dot", reply), kind, attempt) == Decision("sent")
    for stage in STAGES[:-1]:
        assert retry_policy(AttemptResult(stage, reply), kind, attempt).status in ("queued", "dead")


@given(stages, kinds, attempts, st.none() | replies(200, 599))
def test_whatever_came_nothing_is_lost_and_nothing_retried_for_ever(
    stage: Stage, kind: EmailKind, attempt: int, reply: Reply | None
) -> None:
    decision = retry_policy(AttemptResult(stage, reply), kind, attempt)
    assert decision.status in ("sent", "queued", "dead", "uncertain")
    assert (decision.status == "queued") <= (decision.delay is not None)
    if decision.delay is not None:
        assert attempt < ATTEMPTS
        assert decision.delay == DELAYS[attempt - 1]


@given(kinds, attempts, replies(200, 599).filter(lambda reply: 300 <= reply.code < 400) | st.none())
def test_no_word_after_the_final_dot_is_uncertain_and_only_three_kinds_are_sent_again(
    kind: EmailKind, attempt: int, reply: Reply | None
) -> None:
    decision = retry_policy(AttemptResult("dot", reply), kind, attempt)
    assert decision.status == "uncertain"
    assert (decision.delay is not None) == (kind in RESENT_WHEN_UNCERTAIN and attempt < ATTEMPTS)
    assert frozenset({"invitation", "reschedule", "cancellation"}) == RESENT_WHEN_UNCERTAIN


@given(st.sampled_from(STAGES[:-1]), kinds, st.integers(1, ATTEMPTS - 1))
def test_a_connection_lost_before_the_final_dot_is_tried_again(stage: Stage, kind: EmailKind, attempt: int) -> None:
    assert retry_policy(AttemptResult(stage), kind, attempt) == Decision("queued", DELAYS[attempt - 1])


@given(stages, kinds, st.integers(1, ATTEMPTS - 1), replies(400, 499))
def test_4xx_is_tried_again_at_every_stage(stage: Stage, kind: EmailKind, attempt: int, reply: Reply) -> None:
    assert retry_policy(AttemptResult(stage, reply), kind, attempt) == Decision("queued", DELAYS[attempt - 1])


@given(st.sampled_from(STAGES[1:]), kinds, attempts, replies(500, 599))
def test_5xx_about_the_mail_is_final(stage: Stage, kind: EmailKind, attempt: int, reply: Reply) -> None:
    decision = retry_policy(AttemptResult(stage, reply), kind, attempt)
    assert (decision.status, decision.delay) == ("dead", None)
    if decision.suppress:
        assert reply.enhanced in NO_SUCH_MAILBOX or (stage == "recipient" and reply.code == 550)


def test_5xx_while_connecting_is_about_us_and_not_about_the_mail() -> None:
    assert retry_policy(AttemptResult("connect", Reply(535, "5.7.8 wrong password")), "generic", 1) == Decision(
        "queued", DELAYS[0]
    )
    assert retry_policy(AttemptResult("connect", Reply(554, "no service")), "generic", 1) == Decision(
        "queued", DELAYS[0]
    )


@pytest.mark.parametrize(
    ("stage", "reply", "suppress"),
    [
        ("recipient", Reply(550, "no such user here"), True),
        ("recipient", Reply(550, "5.1.1 no such user"), True),
        ("recipient", Reply(556, "5.1.10 the domain takes no mail"), True),
        ("dot", Reply(550, "5.1.1 no such user"), True),
        ("recipient", Reply(550, "5.7.1 relaying denied"), False),  # it would cost us every address there is
        ("recipient", Reply(552, "5.2.2 mailbox full"), False),
        ("recipient", Reply(553, "mailbox name not allowed"), False),
        ("sender", Reply(550, "5.1.1 no such user"), False),
        ("dot", Reply(550, "spam"), False),
        ("recipient", Reply(450, "4.1.1 no such user yet"), False),
    ],
)
def test_only_an_unknown_recipient_is_suppressed(stage: Stage, reply: Reply, suppress: bool) -> None:
    assert retry_policy(AttemptResult(stage, reply), "generic", 1).suppress is suppress


@given(stages, replies(200, 599) | st.none(), st.text(max_size=2000))
def test_what_staff_read_fits_the_column(stage: Stage, reply: Reply | None, why: str) -> None:
    words = describe(AttemptResult(stage, reply, why))
    assert words
    assert "\x00" not in words
    assert len(words) <= 500


# answers

lines = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=60).map(str.strip)
answers = st.lists(st.tuples(st.integers(200, 599), st.lists(lines, min_size=1, max_size=4)), min_size=1, max_size=5)


def dumped(code: int, said: list[str]) -> bytes:
    return b"".join(f"{code}{'-' if n < len(said) - 1 else ' '}{one}\r\n".encode() for n, one in enumerate(said))


def read(*packets: bytes) -> tuple[list[Reply], str]:
    """The replies that a connection reads from what a server sends before it hangs up, and why it reads no more."""
    ours, server = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)  # what is sent in pieces is read in pieces
    with ours, server:
        for packet in packets:
            server.send(packet)
        server.shutdown(socket.SHUT_WR)
        connection, replies = Connection(MailServer("127.0.0.1", 25)), []
        connection.use(ours, secured=False)
        for _ in range(1000):
            connection.send(b"")  # there is something to answer
        try:
            while True:
                replies.append(connection.reply())
        except Failed as failed:
            return replies, failed.end.why


END = "the server closed the connection"
GARBAGE = "the server sent what is no SMTP"


@given(answers, st.lists(st.integers(0, 400), max_size=6))
def test_answers_are_read_however_they_are_cut(given_: list[tuple[int, list[str]]], cuts: list[int]) -> None:
    data = b"".join(dumped(*one) for one in given_)
    places = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    replies, why = read(*(data[start:end] for start, end in pairwise(places)))
    assert replies == [Reply(code, "\n".join(said)) for code, said in given_]
    assert why == END


@given(st.binary(max_size=200))
def test_whatever_bytes_come_the_parser_answers_or_refuses(data: bytes) -> None:
    replies, why = read(data + b"\n")
    assert why in (END, GARBAGE)
    assert all(200 <= reply.code <= 599 and "\x00" not in reply.text for reply in replies)


@pytest.mark.parametrize(
    "data", [b"HTTP/1.1 400\r\n", b"250-a\r\n251 b\r\n", b"99 x\r\n", b"\r\n", b"x" * (LINE_BYTES + 1), b"250_a\r\n"]
)
def test_what_is_no_smtp_is_refused(data: bytes) -> None:
    assert read(data) == ([], GARBAGE)


def test_an_answer_before_the_garbage_counts() -> None:
    assert read(b"250 taken\r\nrubbish\r\n") == ([Reply(250, "taken")], GARBAGE)


def test_an_endless_reply_is_refused() -> None:
    assert read(*[b"250-more\r\n" * 1000] * 10) == ([], GARBAGE)


# dots

bodies = st.lists(st.sampled_from([b".", b"..", b"a", b"\r\n", b"\n", b"\r", b"\r\n.\r\n", b"\n.\n", b""])).map(
    b"".join
)


@given(bodies)
def test_a_body_ends_only_where_it_ends(body: bytes) -> None:
    sent = stuffed(body)
    assert sent.endswith(b"\r\n.\r\n") or sent == b".\r\n"
    inner = sent.removesuffix(b".\r\n")
    assert b"\r\n.\r\n" not in b"\r\n" + inner
    # what a server makes of it (RFC 5321, section 4.5.2) is the body with its line ends made whole
    received = (b"\r\n" + inner).replace(b"\r\n..", b"\r\n.").removeprefix(b"\r\n")
    whole = body.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")
    assert received in (whole, whole + b"\r\n")


# where mail goes


def server(**environment: str) -> MailServer:
    for name, value in environment.items():
        os.environ[f"GREENROOM_{name}"] = value
    try:
        return MailServer.of(load())
    finally:
        for name in environment:
            del os.environ[f"GREENROOM_{name}"]


@pytest.mark.parametrize(
    ("url", "host", "port", "secured"),
    [
        ("smtp://mail.example.com", "mail.example.com", 25, False),
        ("smtp://mail.example.com:2525", "mail.example.com", 2525, False),
        ("smtp+starttls://mail.example.com", "mail.example.com", 587, True),
        ("smtps://mail.example.com", "mail.example.com", 465, True),
        ("smtp://u:p@mail.example.com:587", "mail.example.com", 587, True),
        ("smtp://u:p@127.0.0.1:1025", "127.0.0.1", 1025, False),
        ("smtp://[::1]:25", "::1", 25, False),
        ("smtp://bücher.example", "xn--bcher-kva.example", 25, False),
    ],
)
def test_smtp_url_says_where_and_how_safely(url: str, host: str, port: int, secured: bool) -> None:
    found = server(SMTP_URL=url)
    assert (found.host, found.port, found.secured) == (host, port, secured)


def test_a_password_is_decoded_and_not_shown() -> None:
    found = server(SMTP_URL="smtps://us%40er:p%3Ass%2F@mail.example.com")
    assert (found.user, found.password) == ("us@er", "p:ss/")
    assert "p:ss/" not in repr(found)


def test_without_smtp_url_it_is_the_capture_server() -> None:
    found = server(CAPTURE_PORT="1999", PUBLIC_URL="https://interviews.example.com")
    assert (found.host, found.port, found.helo) == ("127.0.0.1", 1999, "interviews.example.com")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SMTP_URL", "http://mail.example.com"),
        ("SMTP_URL", "smtp://u@mail.example.com"),
        ("SMTP_URL", "smtp://mail.example.com/path"),
        ("SMTP_URL", "smtp://u:verysecret@mail.example.com:99999"),
        ("MAIL_FROM", "nobody"),
        ("MAIL_FROM", "A\r\nBcc: b@example.com <a@example.com>"),
        ("EMAIL_CONCURRENCY", "1"),
        ("EMAIL_CONCURRENCY", "6"),
        ("EMAIL_RATE", "-1"),
    ],
)
def test_a_bad_setting_is_named_and_no_password_shown(name: str, value: str) -> None:
    with pytest.raises(BadSettings) as refused:
        server(**{name: value})
    assert list(refused.value.reasons) == [f"GREENROOM_{name}"]
    assert "verysecret" not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "token", "mode", "said"),
    [
        ("smtp://me@mail.example.com", "ya29.secret", 0o600, "needs TLS"),
        ("smtp://me@127.0.0.1:1025", "ya29.secret", 0o600, "needs TLS"),
        ("smtps://me:verysecret@mail.example.com", "ya29.secret", 0o600, "user alone"),
        ("smtps://mail.example.com", "ya29.secret", 0o600, "user alone"),
        ("smtps://me@mail.example.com", "ya29.secret", 0o604, "read by others"),
        ("smtps://me@mail.example.com", "ya29.secret", 0o640, "read by others"),
        ("smtps://me@mail.example.com", "", 0o600, "no token"),
        ("smtps://me@mail.example.com", None, 0o600, "cannot be read"),
        (None, "ya29.secret", 0o600, "needs SMTP_URL"),
    ],
)
def test_a_token_file_that_would_not_be_safe_is_refused(
    tmp_path: Path, url: str | None, token: str | None, mode: int, said: str
) -> None:
    path = tmp_path / "token"
    if token is not None:
        path.write_text(token)
        path.chmod(mode)
    with pytest.raises(BadSettings) as refused:
        server(SMTP_TOKEN_FILE=str(path), **({} if url is None else {"SMTP_URL": url}))
    assert list(refused.value.reasons) == ["GREENROOM_SMTP_TOKEN_FILE"]
    assert said in str(refused.value)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("scheme", ["smtps", "smtp+starttls"])
def test_with_a_token_file_smtp_url_names_the_user_alone(tmp_path: Path, scheme: str) -> None:
    path = tmp_path / "token"
    path.write_text("ya29.secret\n")
    path.chmod(0o600)
    found = server(SMTP_TOKEN_FILE=str(path), SMTP_URL=f"{scheme}://me%40example.com@mail.example.com")
    assert (found.user, found.password, found.token_file) == ("me@example.com", None, path)
    assert "ya29" not in repr(found)


def test_mail_is_from_the_public_host_unless_said_otherwise() -> None:
    os.environ["GREENROOM_PUBLIC_URL"] = "https://interviews.example.com"
    try:
        assert load().mail_from == "Greenroom <greenroom@interviews.example.com>"
    finally:
        del os.environ["GREENROOM_PUBLIC_URL"]

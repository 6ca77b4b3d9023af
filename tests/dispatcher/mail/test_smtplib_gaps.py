"""What the standard library's smtplib does not do by itself: why ``dispatcher/mail/smtp.py`` has code of its own.

A test that fails here says that smtplib has learnt it, and that the code of ours can go.
"""

import smtplib
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest


@contextmanager
def plain(*replies: bytes, until: bytes = b"") -> Iterator[smtplib.SMTP]:
    """smtplib's own client, greeted, on a server that answers each line with the next of these replies.

    It hangs up after the last of them, or, with ``until``, once it has read such a line.
    """
    ours, theirs = socket.socketpair()
    with ours, theirs:
        server = threading.Thread(target=_serve, args=(theirs, replies, until), daemon=True)
        server.start()
        client = smtplib.SMTP(timeout=10)
        client.sock = ours
        yield client
        client.close()
        server.join(10)
        assert not server.is_alive()


def _serve(server: socket.socket, replies: Sequence[bytes], until: bytes) -> None:
    left = list(replies)
    with server.makefile("rb") as lines:
        for line in lines:
            if left:
                server.sendall(left.pop(0))
            if line.strip().upper() == until or not (left or until):
                break
        server.shutdown(socket.SHUT_WR)


def test_a_reply_may_be_of_any_size() -> None:
    with plain(b"250-and more\r\n" * 20_000 + b"250 at last\r\n") as client:
        code, text = client.docmd("NOOP")
    assert (code, text.count(b"\n")) == (250, 20_000), "RFC 5321 allows 512 octets a line; we stop at 64 KiB a reply"


def test_a_reply_may_have_two_codes() -> None:
    with plain(b"250-yes\r\n550 no\r\n") as client:
        assert client.docmd("NOOP")[0] == 550, "RFC 5321, 4.2.1: every line has the same code; we close the connection"


def test_a_password_must_be_ascii() -> None:
    with plain(b"250-here\r\n250 AUTH PLAIN\r\n") as client, pytest.raises(UnicodeEncodeError):
        client.login("somebody", "geheim: ü")


def test_503_is_taken_for_a_login() -> None:
    with plain(b"250-here\r\n250 AUTH PLAIN\r\n", b"503 bad sequence\r\n") as client:
        assert client.login("somebody", "secret")[0] == 503, "the next mail is refused, as if it were the mail's fault"


@pytest.mark.parametrize("lost_after", [b"DATA", b"."], ids=["before the content", "after the final dot"])
def test_an_error_is_the_same_on_both_sides_of_the_final_dot(lost_after: bytes) -> None:
    """What was lost before the dot is tried again; after it, nobody knows whether the mail arrived."""
    replies = (b"250 ok\r\n", b"250 ok\r\n", b"250 ok\r\n", b"354 go on\r\n")
    with plain(*replies, until=lost_after) as client, pytest.raises(smtplib.SMTPServerDisconnected) as lost:
        client.sendmail("a@example.com", "b@example.com", "hello")
    assert str(lost.value) == "Connection unexpectedly closed", "the same on both sides"

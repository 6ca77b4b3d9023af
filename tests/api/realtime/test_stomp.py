"""The STOMP codec, against the specification's own bytes and against everything a hostile peer may send."""

import itertools
import time
from collections.abc import Callable, Iterable

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from api.realtime.stomp import (
    CLIENT,
    SERVER,
    VERSIONS,
    WITH_BODY,
    Frame,
    LimitExceeded,
    Parser,
    ProtocolError,
    check,
    dump,
    heart_beat,
    message,
    negotiate,
)

UNESCAPED = {"CONNECT", "CONNECTED", "STOMP"}
versions = st.sampled_from(VERSIONS)
texts = st.text(st.one_of(st.sampled_from("\r\n:\\ ncrt"), st.characters(exclude_categories=["Cs"])), max_size=12)
bodies = st.one_of(st.binary(max_size=40), st.text(st.sampled_from("\0\r\n:{}é"), max_size=20).map(str.encode))


def parser(version: str = "1.2", max_bytes: int = 0) -> Parser:
    made = Parser(max_bytes, commands=CLIENT | SERVER)
    made.version = version
    return made


def parse(data: bytes | str, version: str = "1.2") -> list[Frame]:
    return list(parser(version).feed(data))


def pieces(data: bytes, cuts: Iterable[int]) -> list[bytes]:
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(edges)]


def outcome(made: Parser, data: Iterable[bytes | str]) -> tuple[list[Frame], str | None]:
    """What a connection sees: the frames, then the refusal if there was one."""
    frames: list[Frame] = []
    try:
        for piece in data:
            frames.extend(made.feed(piece))
    except ProtocolError as error:
        return frames, str(error)
    return frames, None


def received(frame: Frame, version: str) -> dict[str, str]:
    """The headers that must arrive: the same where the version can carry them, spaces for what it cannot."""
    plain = version == "1.0" or frame.command in UNESCAPED
    lost = "\0\r\n" if plain else "\0\r" if version == "1.1" else "\0"
    headers: dict[str, str] = {}
    for name, value in frame.headers.items():
        kept = "".join(" " if c in lost or (plain and c == ":") else c for c in name)
        headers.setdefault(kept, "".join(" " if c in lost else c for c in value))
    if frame.body or "content-length" in headers:
        headers["content-length"] = str(len(frame.body))
    return headers


@st.composite
def frames(draw: st.DrawFn, alphabet: st.SearchStrategy[str] = texts) -> Frame:
    command = draw(st.sampled_from(sorted(CLIENT | SERVER)))
    headers = draw(st.dictionaries(alphabet.filter(bool), alphabet, max_size=5))
    return Frame(command, headers, draw(bodies) if command in WITH_BODY else b"")


TOKENS = b"SEND CONNECT NACK \n \n\n \r\n \r \0 \0\n : a:b\n \\ \\t \\c content-length: 1 -1 99 \n\n\0 \xff".split(b" ")
fragments = st.lists(
    st.one_of(st.sampled_from([*TOKENS, b"SEND\na:b\n\nbody\0"]), st.binary(max_size=6)), max_size=25
).map(b"".join)


# --- properties


@settings(deadline=None)
@given(
    st.lists(st.tuples(frames(), st.sampled_from([b"", b"\n", b"\r\n", b"\n\n\n"])), max_size=4),
    versions,
    st.lists(st.integers(0, 10_000), max_size=8),
)
def test_frames_survive_any_split(sent: list[tuple[Frame, bytes]], version: str, cuts: list[int]) -> None:
    data = b"\n" + b"".join(dump(frame, version) + eols for frame, eols in sent)
    expected = [Frame(f.command, received(f, version), f.body) for f, _ in sent]
    assert outcome(parser(version), pieces(data, cuts)) == (expected, None)
    assert outcome(parser(version), [bytes([octet]) for octet in data]) == (expected, None)


@given(frames(st.text(st.sampled_from("\0\r\n:\\abc "), max_size=8)), versions)
@example(Frame("MESSAGE", {"a": "b\n\n\0SEND\ndestination:/x\n\n\0"}), "1.0")
@example(Frame("CONNECTED", {"user-name": "eve\nserver:evil", "server:x": "y"}), "1.2")
@example(Frame("MESSAGE", {"content-length": "0"}, b"\0\nERROR\n\n\0"), "1.2")
@example(Frame("RECEIPT", {"content-length": "40"}), "1.1")
def test_headers_cannot_inject_headers_or_terminate_the_frame(frame: Frame, version: str) -> None:
    data = dump(frame, version)
    assert parse(data + b"DISCONNECT\n\n\0", version) == [
        Frame(frame.command, received(frame, version), frame.body),
        Frame("DISCONNECT"),
    ]


@given(st.one_of(st.binary(max_size=200), fragments), versions, st.sampled_from([0, 1, 30, 64]))
def test_any_bytes_raise_only_protocol_errors_with_bounded_memory(data: bytes, version: str, max_bytes: int) -> None:
    made = parser(version, max_bytes)
    outcome(made, [data])
    assert made.held < max_bytes or not max_bytes or made.held == 0


@given(fragments, versions, st.sampled_from([0, 30]), st.lists(st.integers(0, 1000), max_size=6))
@example(b"SEND\ncontent-length:3\n\na\0b\0", "1.2", 0, [25])
def test_a_split_affects_neither_frames_nor_errors(data: bytes, version: str, max_bytes: int, cuts: list[int]) -> None:
    whole = outcome(parser(version, max_bytes), [data])
    assert outcome(parser(version, max_bytes), pieces(data, cuts)) == whole


@given(fragments, versions)
def test_text_messages_are_their_utf8_bytes(data: bytes, version: str) -> None:
    text = data.decode(errors="replace")
    assert outcome(parser(version), [text]) == outcome(parser(version), [text.encode()])


# --- the specification's own frames, and its clients'

EXAMPLES = [
    (
        b"CONNECT\naccept-version:1.0,1.1,2.0\nhost:stomp.github.org\n\n\0",
        Frame("CONNECT", {"accept-version": "1.0,1.1,2.0", "host": "stomp.github.org"}),
    ),
    (b"CONNECTED\nversion:1.1\n\n\0", Frame("CONNECTED", {"version": "1.1"})),
    (
        b"SEND\ndestination:/queue/a\ncontent-type:text/plain\ncontent-length:14\n\nhello queue a\n\0",
        Frame(
            "SEND",
            {"destination": "/queue/a", "content-type": "text/plain", "content-length": "14"},
            b"hello queue a\n",
        ),
    ),
    (
        b"SUBSCRIBE\nid:0\ndestination:/queue/foo\nack:client\n\n\0",
        Frame("SUBSCRIBE", {"id": "0", "destination": "/queue/foo", "ack": "client"}),
    ),
    (b"UNSUBSCRIBE\nid:0\n\n\0", Frame("UNSUBSCRIBE", {"id": "0"})),
    (b"ACK\nid:12345\ntransaction:tx1\n\n\0", Frame("ACK", {"id": "12345", "transaction": "tx1"})),
    (b"BEGIN\ntransaction:tx1\n\n\0", Frame("BEGIN", {"transaction": "tx1"})),
    (b"DISCONNECT\nreceipt:77\n\n\0", Frame("DISCONNECT", {"receipt": "77"})),
    (b"RECEIPT\nreceipt-id:message-12345\n\n\0", Frame("RECEIPT", {"receipt-id": "message-12345"})),
    (b"DISCONNECT\n\n\0", Frame("DISCONNECT")),
]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(("data", "frame"), EXAMPLES)
def test_the_specifications_examples_byte_for_byte(data: bytes, frame: Frame, version: str) -> None:
    assert parse(data, version) == [frame]
    assert parse(data.split(b"\n\n")[0].replace(b"\n", b"\r\n") + b"\r\n\r\n" + data.split(b"\n\n")[1]) == [frame]
    assert dump(frame, version) == data


def test_the_first_of_repeated_headers_wins() -> None:
    assert parse(b"MESSAGE\nfoo:World\nfoo:Hello\n\n\0") == [Frame("MESSAGE", {"foo": "World"})]
    assert parse(b"SEND\ncontent-length:1\ncontent-length:9\n\nx\0")[0].body == b"x"
    assert parse(b"MESSAGE\na\\cb:1\na\\cb:2\n\n\0")[0].headers == {"a:b": "1"}


def test_headers_are_never_trimmed_and_keep_their_colons() -> None:
    for version in VERSIONS:
        (frame,) = parse(b"SEND\n a : b \nurl:http://x:80/\nempty:\n\n\0", version)
        assert frame.headers == {" a ": " b ", "url": "http://x:80/", "empty": ""}


@pytest.mark.parametrize(
    ("version", "wire", "value"),
    [
        ("1.2", b"\\r\\n\\c\\\\", "\r\n:\\"),
        ("1.2", b"\\\\n\\\\c", "\\n\\c"),
        ("1.1", b"\\n\\c\\\\", "\n:\\"),
        ("1.0", b"\\r\\n\\c\\t\\", "\\r\\n\\c\\t\\"),
    ],
)
def test_each_version_escapes_what_it_defines(version: str, wire: bytes, value: str) -> None:
    frame = Frame("RECEIPT", {"receipt-id": value})
    assert parse(b"RECEIPT\nreceipt-id:" + wire + b"\n\n\0", version) == [frame]
    assert dump(frame, version) == b"RECEIPT\nreceipt-id:" + wire + b"\n\n\0"


@pytest.mark.parametrize("command", ["CONNECT", "CONNECTED", "STOMP"])
@pytest.mark.parametrize("version", VERSIONS)
def test_connect_and_connected_are_never_escaped(command: str, version: str) -> None:
    data = command.encode() + b"\npasscode:a\\c:\\tb\\\n\n\0"
    assert parse(data, version) == [Frame(command, {"passcode": "a\\c:\\tb\\"})]
    assert dump(Frame(command, {"passcode": "a\\c:\\tb\\"}), version) == data


def test_a_body_may_hold_nul_when_its_length_is_given_and_ends_at_nul_when_not() -> None:
    assert parse(b"SEND\ncontent-length:3\n\na\0b\0SEND\n\na\0")[0].body == b"a\0b"
    assert [f.body for f in parse(b"SEND\n\na\0\n\nSEND\n\n\n\n\0")] == [b"a", b"\n\n"]
    assert dump(Frame("SEND", {}, b"\0")) == b"SEND\ncontent-length:1\n\n\0\0"


def test_a_short_frame_after_a_split_long_one_is_parsed_at_once() -> None:
    made = parser()
    assert list(made.feed(b"SEND\ncontent-length:90\n\n\0")) == []
    assert list(made.feed(b"\0" * 88)) == []
    assert [f.body for f in made.feed(b"\0\0")] == [b"\0" * 90]
    assert list(made.feed(b"DISCONNECT\n\n\0")) == [Frame("DISCONNECT")]


def test_several_frames_and_heart_beats_come_in_one_message() -> None:
    assert parse(b"\n") == parse(b"\r\n") == parse(b"") == []
    both = parse("\nBEGIN\ntransaction:é\n\n\0\n\r\nABORT\r\ntransaction:é\r\n\n\0\n")
    assert both == [Frame("BEGIN", {"transaction": "é"}), Frame("ABORT", {"transaction": "é"})]


# --- refusals


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"GET / HTTP/1.1\nHost:x\n\n\0", "unknown command GET / HTTP/1.1"),
        (b"send\n\n\0", "unknown command send"),
        (b"SEND \n\n\0", "unknown command SEND "),
        (b"MESSAGE\n\n\0", "unknown command MESSAGE"),
        (b"\x1b\\" + b"A" * 99 + b"\n\n\0", "unknown command ??" + "A" * 30),
        (b"SEND\nno colon\n\n\0", "a header line of SEND has no colon"),
        (b"SEND\n:value\n\n\0", "a header of SEND has no name"),
        (b"SEND\na:\xff\n\n\0", "not valid UTF-8"),
        (b"SEND\na:\xed\xa0\x80\n\n\0", "not valid UTF-8"),
        (b"SEND\na:b\rc\n\n\0", "carriage return"),
        (b"SEND\na:b\r\r\n\r\n\0", "carriage return"),
        (b"SEND\ndestination:/a\n\0", "blank line"),
        (b"SEND\0", "blank line"),
        (b"SEND\ndestination:/a\0\nSEND\n\n\0", "blank line"),
        (b"SEND\na:b\\t\n\n\0", "undefined escape sequence"),
        (b"SEND\na:b\\\n\n\0", "undefined escape sequence"),
        (b"SEND\na\\x:b\n\n\0", "undefined escape sequence"),
        (b"SUBSCRIBE\nid:0\n\nbody\0", "SUBSCRIBE must not have a body"),
        (b"CONNECT\ncontent-length:4\n\nbody\0", "CONNECT must not have a body"),
        (b"BEGIN\ncontent-length:4\n\n\0", "BEGIN must not have a body"),
        (b"SEND\ncontent-length:3\n\nbody\0", "content-length"),
        (b"SEND\ncontent-length:5\n\nbody\0SEND\n\n\0", "content-length"),
        (b"SEND\ncontent-length:0\n\nbody\0", "content-length"),
    ]
    + [
        (b"SEND\ncontent-length:" + bad + b"\n\nbody\0", "content-length is not a non-negative integer")
        for bad in (b"", b"-4", b"+4", b" 4", b"4.0", b"0x4", b"1_0", "٤".encode(), b"four", b"4" * 5000)
    ],
)
def test_protocol_errors_name_their_reason(data: bytes, why: str) -> None:
    with pytest.raises(ProtocolError) as refused:
        list(Parser(0).feed(data))
    assert why in str(refused.value)
    assert "\\" not in str(refused.value)
    assert len(str(refused.value)) < 80


def test_carriage_return_has_no_escape_in_1_1() -> None:
    assert parse(b"SEND\na:\\r\n\n\0", "1.2")[0].headers == {"a": "\r"}
    with pytest.raises(ProtocolError, match="undefined escape"):
        parse(b"SEND\na:\\r\n\n\0", "1.1")


def test_frames_before_an_invalid_one_are_yielded_and_the_parser_stays_failed() -> None:
    made = Parser()
    frames = made.feed(b"BEGIN\ntransaction:1\n\n\0\nBAD\n\n\0ABORT\ntransaction:1\n\n\0")
    assert next(frames).command == "BEGIN"
    with pytest.raises(ProtocolError, match="unknown command BAD"):
        next(frames)
    with pytest.raises(ProtocolError, match="unknown command BAD"):
        list(made.feed(b"ABORT\ntransaction:1\n\n\0"))
    assert made.held == 0


def test_a_new_version_applies_from_the_next_frame() -> None:
    made = Parser()
    frames = made.feed(b"CONNECT\naccept-version:1.0\n\n\0SEND\ndestination:\\t\n\n\0")
    assert next(frames).command == "CONNECT"
    made.version = "1.0"
    assert next(frames).headers == {"destination": "\\t"}


def test_unread_frames_come_at_the_next_feed() -> None:
    made = Parser()
    made.feed(b"BEGIN\ntransaction:1\n\n\0")
    assert [f.command for f in made.feed(b"ABORT\ntransaction:1\n\n\0")] == ["BEGIN", "ABORT"]


# --- limits


def test_a_frame_may_be_as_long_as_the_limit_and_no_longer() -> None:
    lengthy = b"SEND\ncontent-length:9\n\n" + b"\0" * 10
    assert len(list(Parser(len(lengthy)).feed(lengthy))) == 1
    with pytest.raises(LimitExceeded):
        list(Parser(len(lengthy) - 1).feed(lengthy))
    data = b"SEND\na:b\n\n" + b"x" * 20 + b"\0"
    assert len(list(Parser(len(data)).feed((b"\n" * 50 + data) * 9))) == 9
    for refused in (data, data[:-1]):
        made = Parser(len(data) - 1)
        with pytest.raises(LimitExceeded, match=r"WS_FRAME_BYTES \(30\)"):
            list(made.feed(refused))
        assert made.held == 0
    assert len(list(Parser(0).feed(b"SEND\n\n" + b"x" * 1_000_000 + b"\0"))) == 1


def test_a_frame_that_never_ends_is_refused_when_it_reaches_the_limit() -> None:
    made = Parser(1000)
    for count in range(1, 100):
        assert list(made.feed(b"x" * 10)) == []
        assert made.held == 10 * count
    with pytest.raises(LimitExceeded):
        list(made.feed(b"x" * 10))
    assert made.held == 0


def test_a_declared_body_over_the_limit_is_refused_before_it_comes() -> None:
    start = b"SEND\ncontent-length:%d\n\n\0"
    with pytest.raises(LimitExceeded):
        list(Parser(100).feed(start % 100))
    assert list(Parser(100).feed(start % 50)) == []


def seconds(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


def feed_tiny(start: bytes, count: int) -> None:
    made = Parser(0)
    assert list(made.feed(start)) == []
    for _ in range(count):
        for _ in made.feed(b"xxxxxxxx"):
            pass


# Linear work costs 8 or 16 times as much for 8 or 16 times as many, quadratic work 64 or 256 times.


@pytest.mark.parametrize("start", [b"SEND\n\n", b"SEND\ncontent-length:9999999\n\n\0"])
def test_the_cost_of_small_pieces_is_linear(start: bytes) -> None:
    assert seconds(lambda: feed_tiny(start, 240_000)) < 3 * 8 * seconds(lambda: feed_tiny(start, 30_000))


def test_small_pieces_do_not_rescan_long_headers() -> None:
    start = b"SEND\n%bcontent-length:9999999\n\n\0"
    short = seconds(lambda: feed_tiny(start % b"", 3000))
    assert seconds(lambda: feed_tiny(start % (b"a:b\n" * 5000), 3000)) < 30 * short


@pytest.mark.parametrize("one", [b"SEND\na:b\n\n\0\n", b"SEND\r\na:b\r\n\r\n\0"])
def test_the_cost_of_many_frames_in_one_message_is_linear(one: bytes) -> None:
    def work(count: int) -> None:
        assert len(list(Parser().feed(one * count))) == count

    assert seconds(lambda: work(96_000)) < 3 * 16 * seconds(lambda: work(6_000))


# --- the server's side


@given(st.tuples(texts, texts, st.integers(0), st.binary(max_size=30)), st.none() | texts, versions)
def test_a_message_is_a_frame_like_any_other(
    given_: tuple[str, str, int, bytes], ack: str | None, version: str
) -> None:
    destination, subscription, message_id, body = given_
    headers = {"destination": destination, "message-id": str(message_id), "content-type": "application/json"}
    headers |= {"subscription": subscription} | ({} if ack is None else {"ack": ack})
    headers["content-length"] = str(len(body))
    data = message(destination, subscription, message_id, body, ack=ack, version=version)
    sent = Frame("MESSAGE", headers, body)
    assert parse(data, version) == [Frame("MESSAGE", received(sent, version), body)]
    assert data == dump(sent, version)


def test_a_message_byte_for_byte() -> None:
    data = message("/topic/session/1", None, 7, b"{}", version="1.0")
    assert data == (
        b"MESSAGE\ndestination:/topic/session/1\nmessage-id:7\ncontent-type:application/json\ncontent-length:2\n\n{}\0"
    )
    assert b"\nack:a7\n" in message("/q", "s", "7", b"", ack="a7")


@pytest.mark.parametrize(
    "frame",
    [Frame("PING"), Frame("MESSAGE\n\n\0"), Frame("SEND", {"": "x"}), Frame("RECEIPT", {}, b"body")],
)
def test_dump_refuses_invalid_frames(frame: Frame) -> None:
    with pytest.raises(ValueError, match=r"STOMP command|no name|must not have a body"):
        dump(frame)


def test_a_lone_surrogate_does_not_stop_a_frame() -> None:
    assert dump(Frame("CONNECTED", {"user-name": "a\ud800"})) == b"CONNECTED\nuser-name:a?\n\n\0"
    with pytest.raises(ProtocolError, match="UTF-8"):
        parse("SEND\na:\ud800\n\n\0")


REQUIRED = """
CONNECT      1.1,1.2      accept-version
STOMP        1.0,1.1,1.2  accept-version
SEND         1.0,1.1,1.2  destination
SUBSCRIBE    1.0          destination
SUBSCRIBE    1.1,1.2      destination id
UNSUBSCRIBE  1.1,1.2      id
ACK          1.0          message-id
ACK          1.1          message-id subscription
NACK         1.1          message-id subscription
ACK          1.2          id
NACK         1.2          id
BEGIN        1.0,1.1,1.2  transaction
COMMIT       1.0,1.1,1.2  transaction
ABORT        1.0,1.1,1.2  transaction
DISCONNECT   1.0,1.1,1.2
CONNECT      1.0
"""


@pytest.mark.parametrize("row", REQUIRED.strip().splitlines())
def test_each_required_header_is_named_when_absent(row: str) -> None:
    command, versions, *names = row.split()
    for version in versions.split(","):
        check(Frame(command, dict.fromkeys(names, "")), version)
        for missing in names:
            headers = {name: "x" for name in (*names, "other") if name != missing}
            with pytest.raises(ProtocolError, match=f"^{command} without the header {missing}$"):
                check(Frame(command, headers), version)


def test_commands_and_headers_that_differ_in_1_0() -> None:
    with pytest.raises(ProtocolError, match=r"NACK is not a command of STOMP 1\.0"):
        check(Frame("NACK", {"message-id": "1"}), "1.0")
    with pytest.raises(ProtocolError, match="id or destination"):
        check(Frame("UNSUBSCRIBE", {"receipt": "1"}), "1.0")
    check(Frame("UNSUBSCRIBE", {"id": "1"}), "1.0")
    check(Frame("UNSUBSCRIBE", {"destination": "/a"}), "1.0")


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        (None, "1.0"),
        ("1.0", "1.0"),
        ("1.2,1.1,1.0", "1.2"),
        ("1.0,1.1,2.0", "1.1"),
        ("1.1, 1.2", "1.2"),
        ("", None),
        ("2.0", None),
        ("1.20", None),
        ("1.2;1.1", None),
    ],
)
def test_the_highest_common_version_is_chosen(offered: str | None, chosen: str | None) -> None:
    assert negotiate(offered) == chosen


@pytest.mark.parametrize(
    ("client", "ours", "agreed"),
    [
        (None, (10_000, 10_000), (0, 0)),
        ("0,0", (10_000, 10_000), (0, 0)),
        ("10000,10000", (10_000, 10_000), (10_000, 10_000)),
        ("4000,25000", (10_000, 10_000), (25_000, 10_000)),
        ("25000,4000", (10_000, 10_000), (10_000, 25_000)),
        ("0,5000", (10_000, 20_000), (10_000, 0)),
        ("5000,0", (10_000, 20_000), (0, 20_000)),
        ("5000,6000", (0, 1000), (0, 5000)),
        ("5000,6000", (1000, 0), (6000, 0)),
    ],
)
def test_the_heart_beat_interval_is_the_larger_of_both(
    client: str | None, ours: tuple[int, int], agreed: tuple[int, int]
) -> None:
    assert heart_beat(client, ours) == agreed


@pytest.mark.parametrize("bad", ["", ",", "1", "1,", ",1", "1,2,3", "-1,0", "a,b", "1.5,2", "1, 2", "²,1", "9" * 99])
def test_a_malformed_heart_beat_is_refused(bad: str) -> None:
    with pytest.raises(ProtocolError, match="heart-beat is not"):
        heart_beat(bad, (0, 0))

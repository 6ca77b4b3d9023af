"""The STOMP edge, frame by frame, in a real API process: commands, receipts, transactions."""

import asyncio
import json
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from core.db import transaction
from tests.support import factories as make
from tests.support.processes import Api, token
from tests.support.stomp_client import Client, flow_state, frame, locked, publish


@pytest.fixture(scope="module")
def people(api: Api) -> make.People:
    """People of this module's own."""
    with transaction() as db:
        return make.people(db)


@pytest.fixture(scope="module")
def recruiter(people: make.People) -> str:
    """The recruiter's token."""
    return token(people.ids["recruiter"])


async def test_commands_of_each_version(api: Api, recruiter: str) -> None:
    """1.0 subscribes without an id and unsubscribes by destination; only 1.2 has the header ack."""
    async with await Client.open(api.ws) as old, await Client.open(api.ws) as new:
        await old.connect(recruiter, **{"accept-version": "1.0"})
        await old.do("SUBSCRIBE", destination="/topic/flows", ack="client", receipt="here")
        assert await old.receipts(1) == ["here"]
        await new.connect(recruiter)
        await new.subscribe("/topic/flows", ack="client-individual")
        id_ = str(publish(flow_state()))
        got = await old.next("MESSAGE")
        assert got.headers.keys().isdisjoint({"subscription", "ack"})
        await old.do("ACK", {"message-id": id_}, receipt="acked")
        await old.do("UNSUBSCRIBE", destination="/topic/flows", receipt="gone")
        assert await old.receipts(2) == ["acked", "gone"]
        await old.do("NACK", {"message-id": id_})
        assert (await old.refused())[1] == 1002
        got = await new.next("MESSAGE")
        assert (got.headers["subscription"], got.headers["ack"]) == ("s", id_)
        await new.do("NACK", id=id_, receipt="nacked")
        assert await new.receipts(1) == ["nacked"]


async def test_frames_may_come_joined_split_and_binary(api: Api, recruiter: str) -> None:
    """Frames behind CONNECT in its message, each octet in a message of its own, EOLs in between, bytes for text."""
    hello = frame("CONNECT", {"accept-version": "1.2", "passcode": recruiter})
    joined = hello + b"\n\r\n" + frame("SUBSCRIBE", id="1", destination="/topic/flows", receipt="a\nb:c")
    async with await Client.open(api.ws) as client:
        await client.send_text((joined + frame("BEGIN", transaction="t", receipt="begun")).decode())
        await client.next("CONNECTED")
        assert await client.receipts(2) == ["a\nb:c", "begun"]
    async with await Client.open(api.ws) as client:
        for octet in range(len(joined)):
            await client.send_text(joined[octet : octet + 1])
        await client.send_text("\n")
        await client.next("CONNECTED")
        await client.next("RECEIPT")
        await client.send_text(b"\r\n\n")
        body = '{"status": "gelöscht"}'.encode()
        send = frame("SEND", {}, body, destination="/app/nowhere", receipt="sent")
        at = send.index("ö".encode()) + 1  # inside a character, which no text message could carry
        await client.send_text(send[:at])
        await client.send_text(send[at:] + b"\n" + send)
        assert await client.receipts(2) == ["sent", "sent"]


async def test_every_command_gets_its_receipt_in_order(api: Api, recruiter: str) -> None:
    commands = [
        ("SUBSCRIBE", {"id": "1", "destination": "/topic/flows", "ack": "client"}),
        ("SEND", {"destination": "/app/nowhere"}),
        ("ACK", {"id": "1"}),
        ("NACK", {"id": "2"}),
        ("BEGIN", {"transaction": "t"}),
        ("SEND", {"destination": "/app/nowhere", "transaction": "t"}),
        ("ACK", {"id": "3", "transaction": "t"}),
        ("COMMIT", {"transaction": "t"}),
        ("BEGIN", {"transaction": "t"}),
        ("ABORT", {"transaction": "t"}),
        ("SUBSCRIBE", {"id": "2", "destination": "/topic/sessions"}),
        ("UNSUBSCRIBE", {"id": "1"}),
        ("DISCONNECT", {}),
    ]
    async with await Client.open(api.ws) as client:
        await client.connect(recruiter)
        frames = [frame(command, headers, receipt=f"{n} é") for n, (command, headers) in enumerate(commands)]
        await client.send_text(b"".join(frames).decode())
        assert await client.receipts(len(commands)) == [f"{n} é" for n in range(len(commands))]
        assert await client.closed() == 1000


async def test_the_receipt_of_subscribe_has_the_last_id(api: Api, recruiter: str) -> None:
    """While pushes go on, every one with an id above last-id comes, in order and once, and none at or below it."""
    stop = asyncio.Event()

    async def push() -> int:
        while not stop.is_set():
            await asyncio.to_thread(publish, flow_state(), flow_state())
        return await asyncio.to_thread(publish, flow_state())

    pushing = asyncio.create_task(push())
    seen: list[tuple[int, list[int]]] = []
    clients = []
    for number in range(6):
        client = await Client.open(api.ws)
        clients.append(client)
        await client.connect(recruiter)
        await client.do("SUBSCRIBE", id="s", destination="/topic/flows", receipt=f"{number}")
        first = await client.next()
        assert first.command == "RECEIPT", "no message comes before the receipt"
        seen.append((int(first.headers["last-id"]), []))
    stop.set()
    last = await pushing
    for client, (_, ids) in zip(clients, seen, strict=True):
        while not ids or ids[-1] < last:
            ids.append(int((await client.next("MESSAGE")).headers["message-id"]))
        client.reset()
    with transaction() as db:
        everything = db.scalars(text("SELECT id FROM push_events WHERE destination = '/topic/flows' ORDER BY id")).all()
    for begin, ids in seen:
        assert ids == [id_ for id_ in everything if begin < id_ <= last]


async def test_an_error_names_the_frame_it_is_about(api: Api, recruiter: str) -> None:
    async with await Client.open(api.ws) as client:
        await client.connect(recruiter)
        bad = frame("SEND", destination="/topic/sessions", receipt="bad")
        await client.send_text(
            (frame("ACK", id="1", receipt="good") + bad + frame("ACK", id="1", receipt="late")).decode()
        )
        assert await client.receipts(1) == ["good"]
        error, code = await client.refused()
        assert (error.headers["receipt-id"], code) == ("bad", 4403)
    async with await Client.open(api.ws) as client:
        await client.connect(recruiter)
        await client.send_text(frame("ACK", id="1", receipt="good").decode() + "FLY\n\n\0")
        assert await client.receipts(1) == ["good"]
        error, code = await client.refused()
        assert "receipt-id" not in error.headers, "a frame that cannot be read is not the one before it"
        assert code == 1002


async def test_errors_quote_client_input_shortened_and_escaped(api: Api, recruiter: str) -> None:
    async with await Client.open(api.ws) as client:
        await client.connect(recruiter)
        await client.do("SEND", destination="/topic/\r\n\\x:" + "é" * 20_000)
        error, code = await client.refused()
        assert len(error.headers["message"]) <= 300
        assert not set("\r\n\\") & set(error.headers["message"])
        assert code == 4403


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        ([("SEND", {"destination": "/app/x", "transaction": "t"})], "no such transaction"),
        ([("COMMIT", {"transaction": "t"})], "no such transaction"),
        ([("ABORT", {"transaction": "t"})], "no such transaction"),
        ([("BEGIN", {"transaction": "t"}), ("BEGIN", {"transaction": "t"})], "begun before"),
        ([("BEGIN", {})], "without the header transaction"),
        ([("SUBSCRIBE", {"destination": "/topic/flows"})], "without the header id"),
        ([("SUBSCRIBE", {"id": "1", "destination": "/topic/flows"})] * 2, "this id exists"),
        ([("SUBSCRIBE", {"id": "1", "destination": "/topic/flows", "ack": "maybe"})], "ack must be"),
        ([("MESSAGE", {"destination": "/x"})], "unknown command"),
    ],
)
async def test_protocol_errors(
    api: Api, recruiter: str, frames: list[tuple[str, dict[str, str]]], message: str
) -> None:
    async with await Client.open(api.ws) as client:
        await client.connect(recruiter)
        for command, headers in frames:
            await client.do(command, headers)
        error, code = await client.refused()
        assert message in error.headers["message"]
        assert code == 1002


async def test_transactions_keep_frames_until_commit(api: Api, people: make.People, recruiter: str) -> None:
    """An aborted SEND does nothing; a committed one moves the session, in order with the others."""
    with transaction() as db:
        session = make.session(db, now=datetime.now(UTC), people=make.people(db))
    update = f"/app/session/{session}/update"
    async with await Client.open(api.ws) as client:
        await client.connect(recruiter)
        await client.subscribe(f"/topic/session/{session}")
        await client.subscribe("/user/queue/errors", "problems")
        for transaction_, end in (("a", "ABORT"), ("b", "COMMIT")):
            await client.do("BEGIN", transaction=transaction_)
            for status, id_ in (("cancelled", "1"), ("flying", "2")):
                body = json.dumps({"status": status, "reason": f"{transaction_}{id_}"}).encode()
                await client.do("SEND", {}, body, destination=update, transaction=transaction_, receipt=id_)
                assert await client.receipts(1) == [id_], "kept, and nothing else yet"
            await client.do(end, transaction=transaction_, receipt=end)
            if end == "ABORT":
                assert await client.receipts(1) == [end]
        frames = [await client.next() for _ in range(3)]
        assert sorted(got.command for got in frames) == ["MESSAGE", "MESSAGE", "RECEIPT"]
        bodies = {got.headers["subscription"]: json.loads(got.body) for got in frames if got.command == "MESSAGE"}
        assert bodies["s"]["data"]["reason"] == "b1"
        assert (bodies["problems"]["data"]["request"], bodies["problems"]["data"]["status"]) == ("2", 422)


async def test_transactions_have_limits(api: Api, recruiter: str) -> None:
    for body, count, message in ((b"x" * 30_000, 3, "WS_FRAME_BYTES (65536)"), (b"", 101, "more than 100 frames")):
        async with await Client.open(api.ws) as client:
            await client.connect(recruiter)
            for number in range(count):
                if number < 2:
                    await client.do("BEGIN", transaction=f"t{number}")
                await client.do("SEND", {}, body, destination="/app/x", transaction=f"t{number % 2}")
            error, code = await client.refused()
            assert message in error.headers["message"]
            assert code == 4429


async def test_the_token_may_expire_while_a_subscription_is_authorised(api: Api, people: make.People) -> None:
    with transaction() as db:
        session = make.session(db, now=datetime.now(UTC), people=make.people(db))
    async with await Client.open(api.ws) as client:
        await client.connect(token(people.ids["recruiter"], lifetime=timedelta(seconds=2)))
        with locked("sessions"):
            await client.do("SUBSCRIBE", id="s", destination=f"/topic/session/{session}")
            error, code = await client.refused()
        assert (error.headers["message"], code) == ("token expired", 4401)

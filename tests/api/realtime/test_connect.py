"""How connections open, in a real API process: Origin, sub-protocol, version, CONNECT."""

from collections.abc import Sequence

import pytest
from sqlalchemy import text
from websockets.exceptions import InvalidStatus

from api.realtime.endpoint import origin_allowed
from core.db import transaction
from core.settings import Settings
from tests.support import factories as make
from tests.support.processes import Api, token
from tests.support.stomp_client import SUB_PROTOCOLS, Client


@pytest.fixture(scope="module")
def people(api: Api) -> make.People:
    """People of this module's own."""
    with transaction() as db:
        return make.people(db)


@pytest.fixture(scope="module")
def recruiter(people: make.People) -> str:
    """The recruiter's token."""
    return token(people.ids["recruiter"])


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        (SUB_PROTOCOLS, "v12.stomp"),
        (("v10.stomp", "v11.stomp"), "v11.stomp"),
        (("v10.stomp",), "v10.stomp"),
        (("mqtt", "v12.stomp"), "v12.stomp"),
        (("mqtt",), None),
        (None, None),
    ],
)
async def test_sub_protocol(api: Api, recruiter: str, offered: Sequence[str] | None, chosen: str | None) -> None:
    async with await Client.open(api.ws, sub_protocols=offered) as client:
        assert client.ws.subprotocol == chosen
        await client.connect(recruiter)


@pytest.mark.parametrize("command", ["CONNECT", "STOMP"])
@pytest.mark.parametrize(
    ("accepted", "spoken"), [("1.0", "1.0"), ("1.0,1.1", "1.1"), ("1.1,1.2,2.0", "1.2"), (None, "1.0"), ("2.0", None)]
)
async def test_version(api: Api, recruiter: str, command: str, accepted: str | None, spoken: str | None) -> None:
    headers = {"Authorization": f"Bearer {recruiter}"} | ({"accept-version": accepted} if accepted else {})
    async with await Client.open(api.ws) as client:
        await client.do(command, headers)
        if spoken is None:
            error, code = await client.refused()
            assert (error.headers["version"], code) == ("1.0,1.1,1.2", 1002)
            return
        connected = await client.next("CONNECTED")
        assert connected.headers["version"] == spoken


async def test_passcode_is_a_token_too(api: Api, people: make.People, recruiter: str) -> None:
    async with await Client.open(api.ws) as client:
        await client.do("CONNECT", {"accept-version": "1.2", "login": "any", "passcode": recruiter})
        assert (await client.next("CONNECTED")).headers["user-name"] == str(people.ids["recruiter"])


@pytest.mark.parametrize("header", ["1000", "1,2,3", "-1,0", "a,b", "٣,0"])
async def test_a_bad_heart_beat_is_refused(api: Api, recruiter: str, header: str) -> None:
    async with await Client.open(api.ws) as client:
        headers = {"accept-version": "1.2", "Authorization": f"Bearer {recruiter}", "heart-beat": header}
        await client.do("CONNECT", headers)
        error, code = await client.refused()
        assert "heart-beat" in error.headers["message"]
        assert code == 1002


async def test_commands_before_connect_are_refused(api: Api) -> None:
    for command in ("SEND", "SUBSCRIBE", "DISCONNECT"):
        async with await Client.open(api.ws) as client:
            await client.do(command, destination="/app/x", id="x", receipt="early")
            error, code = await client.refused()
            assert error.headers["message"] == f"{command} before CONNECT"
            assert (error.headers["receipt-id"], code) == ("early", 1002)


async def test_a_second_connect_is_refused(api: Api, recruiter: str) -> None:
    async with await Client.open(api.ws) as client:
        await client.connect(recruiter)
        await client.do("CONNECT", {"accept-version": "1.2", "passcode": recruiter})
        error, code = await client.refused()
        assert (error.headers["message"], code) == ("already connected", 1002)


async def test_a_deleted_user_does_not_connect(api: Api) -> None:
    with transaction() as db:
        gone = make.people(db).ids["interviewer"]
        db.execute(text("UPDATE users SET deleted_at = now() WHERE id = :id"), {"id": gone})
    async with await Client.open(api.ws) as client:
        await client.do("CONNECT", {"accept-version": "1.2", "passcode": token(gone)})
        assert (await client.refused())[1] == 4401


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        (None, True),
        ("http://localhost:8080", True),
        ("http://localhost:5173", True),
        ("https://127.0.0.1", True),
        ("http://[::1]:3000", True),
        ("https://evil.example", False),
        ("http://localhost.evil.example", False),
        ("http://evil.example:8080", False),
        ("null", False),
        ("file://localhost", False),
        ("http://localhost:port", False),
    ],
)
async def test_origin(api: Api, recruiter: str, origin: str | None, allowed: bool) -> None:
    if allowed:
        async with await Client.open(api.ws, origin=origin) as client:
            await client.connect(recruiter)
    else:
        with pytest.raises(InvalidStatus) as refused:
            await Client.open(api.ws, origin=origin)
        assert refused.value.response.status_code == 403


def test_origins_by_setting() -> None:
    listed = Settings(allowed_origins=("https://app.example.com",))
    assert origin_allowed("https://app.example.com", "x", listed)
    assert not origin_allowed("http://localhost:8080", "localhost:8080", listed), "a list stands for itself"
    assert origin_allowed("https://evil.example", "x", Settings(allowed_origins=("*",)))
    public = Settings(public_url="https://Greenroom.example/")
    assert origin_allowed("https://greenroom.example", "api:8080", public)
    assert origin_allowed("https://greenroom.example:443", "api:8080", public)
    assert not origin_allowed("http://greenroom.example", "api:8080", public)
    assert origin_allowed("http://10.0.0.5:8080", "10.0.0.5:8080", public), "the server's own, whatever its name"
    assert not origin_allowed("http://", "", public)

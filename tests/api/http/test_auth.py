"""Who is let in: tokens of our own and of an outside issuer, and everything that only looks like one."""

import hashlib
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import jwt
import pytest
from sqlalchemy import update

from core.db import transaction
from core.models import User
from tests.support import forged_tokens
from tests.support.forged_tokens import part
from tests.support.http import Clients, json_body, new_clients, refused
from tests.support.processes import SECRET, Api, token

OTHER_SECRET = "another secret, just as long as the real one"


@pytest.fixture
def clients(api: Api) -> Clients:
    return new_clients(api)


def get_me(api: Api, authorization: str | bytes | None) -> httpx.Response:
    """GET something that admins may see, with this Authorization."""
    headers = {} if authorization is None else {"Authorization": authorization}
    return httpx.get(f"{api.url}/api/users", headers=headers, timeout=10, trust_env=False)


def forged(header: bytes, claims: bytes, digest: str = "sha256") -> str:
    return forged_tokens.forged(header, claims, SECRET.encode(), digest)


def claims(clients: Clients, **more: Any) -> dict[str, Any]:
    """The claims of a good token of the admin; those given as None are left out."""
    made = {
        "sub": str(clients.people.ids["admin"]),
        "role": "admin",
        "ver": 1,
        "iat": datetime.now(UTC) - timedelta(minutes=1),
        "exp": datetime.now(UTC) + timedelta(hours=1),
    }
    return {name: value for name, value in (made | more).items() if value is not None}


def test_a_valid_token_is_accepted(clients: Clients) -> None:
    for authorization in (
        f"Bearer {token(clients.people.ids['admin'])}",
        f"bearer   {jwt.encode(claims(clients), SECRET)}",
        f"Bearer {jwt.encode(claims(clients, sub=clients.people.ids['admin']), SECRET)}",
    ):
        json_body(get_me(clients.api, authorization))


@pytest.mark.parametrize(
    "authorization",
    [None, "", "Bearer", "Basic YTpi", "Bearer x", "Bearer a.b.c", b"Bearer \xff\xfe.e30.AA", "Token a b"],
)
def test_without_a_token(api: Api, authorization: str | bytes | None) -> None:
    answer = get_me(api, authorization)
    refused(answer, 401)
    assert answer.headers["www-authenticate"] == "Bearer"


WRONG: dict[str, Callable[[Clients], str]] = {
    "another secret": lambda a: jwt.encode(claims(a), OTHER_SECRET),
    "expired": lambda a: jwt.encode(claims(a, exp=datetime.now(UTC) - timedelta(seconds=1)), SECRET),
    "not yet valid": lambda a: jwt.encode(claims(a, nbf=datetime.now(UTC) + timedelta(hours=1)), SECRET),
    "no expiry": lambda a: jwt.encode(claims(a, exp=None), SECRET),
    "an expiry that is no number": lambda a: jwt.encode(claims(a, exp="tomorrow"), SECRET),
    "an expiry that is true": lambda a: jwt.encode(claims(a, exp=True), SECRET),
    "no user": lambda a: jwt.encode(claims(a, sub=None), SECRET),
    "a name as the user": lambda a: jwt.encode(claims(a, sub="admin"), SECRET),
    "user true": lambda a: jwt.encode(claims(a, sub=True), SECRET),
    "user 1.0": lambda a: jwt.encode(claims(a, sub=float(a.people.ids["admin"])), SECRET),
    "a space before the user": lambda a: jwt.encode(claims(a, sub=f" {a.people.ids['admin']}"), SECRET),
    "a line end after the user": lambda a: jwt.encode(claims(a, sub=f"{a.people.ids['admin']}\n"), SECRET),
    "a plus before the user": lambda a: jwt.encode(claims(a, sub=f"+{a.people.ids['admin']}"), SECRET),
    "a zero before the user": lambda a: jwt.encode(claims(a, sub=f"0{a.people.ids['admin']}"), SECRET),
    "the user in other digits": lambda a: jwt.encode(claims(a, sub=arabic(a.people.ids["admin"])), SECRET),
    "a version that is true": lambda a: jwt.encode(claims(a, ver=True), SECRET),
    "made in twenty seconds": lambda a: jwt.encode(claims(a, iat=datetime.now(UTC) + timedelta(seconds=20)), SECRET),
    "valid in twenty seconds": lambda a: jwt.encode(claims(a, nbf=datetime.now(UTC) + timedelta(seconds=20)), SECRET),
    "user 0": lambda a: jwt.encode(claims(a, sub="0"), SECRET),
    "a user beyond bigint": lambda a: jwt.encode(claims(a, sub=str(2**63)), SECRET),
    "a user who is not there": lambda a: jwt.encode(claims(a, sub=str(2**62)), SECRET),
    "an older version": lambda a: jwt.encode(claims(a, ver=0), SECRET),
    "a version to come": lambda a: jwt.encode(claims(a, ver=2), SECRET),
    "neither version nor iat": lambda a: jwt.encode(claims(a, ver=None, iat=None), SECRET),
    "alg none": lambda a: jwt.encode(claims(a), None, algorithm="none"),
    "alg nOnE with a signature": lambda a: forged(b'{"alg":"nOnE"}', plain(a)),
    "another HMAC": lambda a: forged(b'{"alg":"HS512"}', plain(a), digest="sha512"),
    "RS256 that is HMAC": lambda a: forged(b'{"alg":"RS256"}', plain(a)),
    "claims that are a list": lambda _: forged(b'{"alg":"HS256"}', b"[]"),
    "claims that are not JSON": lambda _: forged(b'{"alg":"HS256"}', b"\xff"),
    "an infinite expiry": lambda _: forged(b'{"alg":"HS256"}', b'{"sub":"1","exp":Infinity}'),
    "a key id that is a list": lambda a: forged(b'{"alg":"HS256","kid":["a"]}', plain(a)),
    "a bottomless header": lambda a: forged(b'{"alg":"HS256","a":' + b"[" * 5000 + b"]" * 5000 + b"}", plain(a)),
    "bottomless claims": lambda _: forged(b'{"alg":"HS256"}', b"[" * 5000 + b"]" * 5000),
}


def arabic(number: int) -> str:
    """The number in Arabic-Indic digits, which int() reads, too."""
    return "".join(chr(0x660 + int(digit)) for digit in str(number))


@pytest.mark.parametrize(
    "exp", [20_000_000_001, 253_402_300_800, 1e300, 10**400], ids=["2603", "10000", "a float", "400 digits"]
)
def test_an_expiry_may_be_of_any_size(clients: Clients, exp: float) -> None:
    text = str(exp) if isinstance(exp, int) else repr(exp)
    body = f'{{"sub": "{clients.people.ids["admin"]}", "ver": 1, "exp": {text}}}'
    good = forged(b'{"alg":"HS256"}', body.encode())
    json_body(get_me(clients.api, f"Bearer {good}"))


def test_a_clock_a_little_ahead_of_ours_is_forgiven(clients: Clients) -> None:
    soon = datetime.now(UTC) + timedelta(seconds=8)
    json_body(get_me(clients.api, f"Bearer {jwt.encode(claims(clients, iat=soon, nbf=soon), SECRET)}"))


def plain(clients: Clients) -> bytes:
    exp = int((datetime.now(UTC) + timedelta(hours=1)).timestamp())
    return json.dumps({"sub": str(clients.people.ids["admin"]), "ver": 1, "exp": exp}).encode()


@pytest.mark.parametrize("how", WRONG)
def test_wrong_tokens(clients: Clients, how: str) -> None:
    wrong = WRONG[how](clients)
    answer = get_me(clients.api, f"Bearer {wrong}")
    refused(answer, 401)
    assert answer.headers["www-authenticate"] == "Bearer"
    assert wrong not in answer.text


def test_the_forged_tokens_differ_only_in_their_header(clients: Clients) -> None:
    """The forged ones above are refused for what is forged, not for how they are made."""
    good = forged(b'{"alg":"HS256"}', plain(clients))
    json_body(get_me(clients.api, f"Bearer {good}"))


def test_a_signature_cut_or_changed(clients: Clients) -> None:
    good = token(clients.people.ids["admin"])
    head, body, signature = good.split(".")
    role = hashlib.sha256(body.encode()).hexdigest()
    for wrong in (
        f"{head}.{body}.",
        f"{head}.{body}",
        f"{head}.{body}.{signature[:-2]}",
        f"{head}.{part(role.encode())}",
    ):
        refused(get_me(clients.api, f"Bearer {wrong}"), 401)


def test_raising_the_token_version_revokes_earlier_tokens(clients: Clients) -> None:
    user = clients.people.ids["recruiter"]
    old = f"Bearer {token(user)}"
    json_body(get_me(clients.api, old))
    assert json_body(clients.admin.patch(f"/api/users/{user}", json={"token_version": 2}))["token_version"] == 2
    refused(get_me(clients.api, old), 401, "withdrawn")
    json_body(get_me(clients.api, f"Bearer {token(user, version=2)}"))
    for not_higher in (1, 2):
        refused(
            clients.admin.patch(f"/api/users/{user}", json={"token_version": not_higher}), 422, "token_version", "2"
        )


def test_an_outside_issuers_tokens_count_from_the_last_raise(clients: Clients) -> None:
    user = clients.people.ids["recruiter"]
    raised = datetime.now(UTC).replace(microsecond=700_000) - timedelta(minutes=5)
    with transaction() as db:
        db.execute(update(User).where(User.id == user).values(token_version=2, token_raised_at=raised))

    def of(issued: datetime) -> str:
        return f"Bearer {jwt.encode(claims(clients, sub=str(user), ver=None, iat=issued), SECRET)}"

    refused(get_me(clients.api, of(raised - timedelta(seconds=1))), 401, "withdrawn")
    json_body(get_me(clients.api, of(raised)))  # iat has whole seconds: the same one counts as after
    json_body(get_me(clients.api, of(raised + timedelta(seconds=1))))


def test_the_role_in_users_decides(clients: Clients) -> None:
    user = clients.people.ids["interviewer"]
    bearer = f"Bearer {token(user, 'admin')}"
    refused(get_me(clients.api, bearer), 403, "interviewer")
    json_body(clients.admin.patch(f"/api/users/{user}", json={"role": "recruiter"}))
    json_body(get_me(clients.api, bearer))
    json_body(clients.admin.patch(f"/api/users/{user}", json={"role": "interviewer"}))
    refused(get_me(clients.api, bearer), 403)


def test_a_deleted_user_cannot_sign_in(clients: Clients) -> None:
    user = clients.people.ids["recruiter"]
    with transaction() as db:
        db.execute(update(User).where(User.id == user).values(deleted_at=datetime.now(UTC)))
    refused(get_me(clients.api, f"Bearer {token(user)}"), 401)


def test_every_route_asks_who_it_is(api: Api) -> None:
    """Whatever the document lists under /api is refused without a token."""
    routes = httpx.get(f"{api.url}/openapi.json", trust_env=False).json()["paths"]
    requests = 0
    for path, methods in routes.items():
        if not path.startswith("/api/"):
            continue
        where = path.replace("{session_id}", "0" * 32).replace("{run_id}", "0" * 32)
        for name in ("user_id", "candidate_id", "interview_id", "name"):
            where = where.replace("{" + name + "}", "1")
        for method in methods:
            body = {"json": {}} if method in ("post", "patch", "put") else {}
            refused(httpx.request(method, f"{api.url}{where}", **body, timeout=10, trust_env=False), 401)  # type: ignore[arg-type]
            requests += 1
    assert requests > 20

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
from tests.support.http import Asking, asking, done, refused
from tests.support.processes import SECRET, Api, token

OTHER_SECRET = "another secret, just as long as the real one"


@pytest.fixture
def ask(api: Api) -> Asking:
    return asking(api)


def look(api: Api, authorization: str | bytes | None) -> httpx.Response:
    """GET something that admins may see, with this Authorization."""
    headers = {} if authorization is None else {"Authorization": authorization}
    return httpx.get(f"{api.url}/api/users", headers=headers, timeout=10, trust_env=False)


def forged(header: bytes, claims: bytes, digest: str = "sha256") -> str:
    return forged_tokens.forged(header, claims, SECRET.encode(), digest)


def claims(ask: Asking, **more: Any) -> dict[str, Any]:
    """The claims of a good token of the admin; those given as None are left out."""
    made = {
        "sub": str(ask.people.ids["admin"]),
        "role": "admin",
        "ver": 1,
        "iat": datetime.now(UTC) - timedelta(minutes=1),
        "exp": datetime.now(UTC) + timedelta(hours=1),
    }
    return {name: value for name, value in (made | more).items() if value is not None}


def test_a_good_token_is_let_in(ask: Asking) -> None:
    for authorization in (
        f"Bearer {token(ask.people.ids['admin'])}",
        f"bearer   {jwt.encode(claims(ask), SECRET)}",
        f"Bearer {jwt.encode(claims(ask, sub=ask.people.ids['admin']), SECRET)}",
    ):
        done(look(ask.api, authorization))


@pytest.mark.parametrize(
    "authorization",
    [None, "", "Bearer", "Basic YTpi", "Bearer x", "Bearer a.b.c", b"Bearer \xff\xfe.e30.AA", "Token a b"],
)
def test_without_a_token(api: Api, authorization: str | bytes | None) -> None:
    answer = look(api, authorization)
    refused(answer, 401)
    assert answer.headers["www-authenticate"] == "Bearer"


WRONG: dict[str, Callable[[Asking], str]] = {
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


@pytest.mark.parametrize("exp", [20_000_000_001, 253_402_300_800, 1e300, 10**400])
def test_an_expiry_far_away_is_one_whatever_its_size(ask: Asking, exp: float) -> None:
    text = str(exp) if isinstance(exp, int) else repr(exp)
    body = f'{{"sub": "{ask.people.ids["admin"]}", "ver": 1, "exp": {text}}}'
    good = forged(b'{"alg":"HS256"}', body.encode())
    done(look(ask.api, f"Bearer {good}"))


def test_a_clock_a_little_ahead_of_ours_is_forgiven(ask: Asking) -> None:
    soon = datetime.now(UTC) + timedelta(seconds=8)
    done(look(ask.api, f"Bearer {jwt.encode(claims(ask, iat=soon, nbf=soon), SECRET)}"))


def plain(ask: Asking) -> bytes:
    exp = int((datetime.now(UTC) + timedelta(hours=1)).timestamp())
    return json.dumps({"sub": str(ask.people.ids["admin"]), "ver": 1, "exp": exp}).encode()


@pytest.mark.parametrize("how", WRONG)
def test_wrong_tokens(ask: Asking, how: str) -> None:
    wrong = WRONG[how](ask)
    answer = look(ask.api, f"Bearer {wrong}")
    refused(answer, 401)
    assert answer.headers["www-authenticate"] == "Bearer"
    assert wrong not in answer.text


def test_the_forger_would_be_let_in_with_the_right_header(ask: Asking) -> None:
    """The forged ones above are refused for what is forged, not for how they are made."""
    good = forged(b'{"alg":"HS256"}', plain(ask))
    done(look(ask.api, f"Bearer {good}"))


def test_a_signature_cut_or_changed(ask: Asking) -> None:
    good = token(ask.people.ids["admin"])
    head, body, signature = good.split(".")
    role = hashlib.sha256(body.encode()).hexdigest()
    for wrong in (
        f"{head}.{body}.",
        f"{head}.{body}",
        f"{head}.{body}.{signature[:-2]}",
        f"{head}.{part(role.encode())}",
    ):
        refused(look(ask.api, f"Bearer {wrong}"), 401)


def test_raising_the_version_ends_every_token_of_before(ask: Asking) -> None:
    user = ask.people.ids["recruiter"]
    old = f"Bearer {token(user)}"
    done(look(ask.api, old))
    assert done(ask.admin.patch(f"/api/users/{user}", json={"token_version": 2}))["token_version"] == 2
    refused(look(ask.api, old), 401, "withdrawn")
    done(look(ask.api, f"Bearer {token(user, version=2)}"))
    for not_higher in (1, 2):
        refused(ask.admin.patch(f"/api/users/{user}", json={"token_version": not_higher}), 422, "token_version", "2")


def test_an_outside_issuers_tokens_count_from_the_last_raise(ask: Asking) -> None:
    user = ask.people.ids["recruiter"]
    raised = datetime.now(UTC).replace(microsecond=700_000) - timedelta(minutes=5)
    with transaction() as db:
        db.execute(update(User).where(User.id == user).values(token_version=2, token_raised_at=raised))

    def of(issued: datetime) -> str:
        return f"Bearer {jwt.encode(claims(ask, sub=str(user), ver=None, iat=issued), SECRET)}"

    refused(look(ask.api, of(raised - timedelta(seconds=1))), 401, "withdrawn")
    done(look(ask.api, of(raised)))  # iat has whole seconds: the same one counts as after
    done(look(ask.api, of(raised + timedelta(seconds=1))))


def test_the_role_in_users_decides(ask: Asking) -> None:
    user = ask.people.ids["interviewer"]
    bearer = f"Bearer {token(user, 'admin')}"
    refused(look(ask.api, bearer), 403, "interviewer")
    done(ask.admin.patch(f"/api/users/{user}", json={"role": "recruiter"}))
    done(look(ask.api, bearer))
    done(ask.admin.patch(f"/api/users/{user}", json={"role": "interviewer"}))
    refused(look(ask.api, bearer), 403)


def test_a_deleted_user_is_not_let_in(ask: Asking) -> None:
    user = ask.people.ids["recruiter"]
    with transaction() as db:
        db.execute(update(User).where(User.id == user).values(deleted_at=datetime.now(UTC)))
    refused(look(ask.api, f"Bearer {token(user)}"), 401)


def test_every_route_asks_who_it_is(api: Api) -> None:
    """Whatever the document lists under /api is refused without a token."""
    routes = httpx.get(f"{api.url}/openapi.json", trust_env=False).json()["paths"]
    asked = 0
    for path, methods in routes.items():
        if not path.startswith("/api/"):
            continue
        where = path.replace("{session_id}", "0" * 32).replace("{run_id}", "0" * 32)
        for name in ("user_id", "candidate_id", "interview_id", "name"):
            where = where.replace("{" + name + "}", "1")
        for method in methods:
            body = {"json": {}} if method in ("post", "patch", "put") else {}
            refused(httpx.request(method, f"{api.url}{where}", **body, timeout=10, trust_env=False), 401)  # type: ignore[arg-type]
            asked += 1
    assert asked > 20

"""Tokens of an outside issuer, whose public keys are read from a JWKS URL."""

import base64
import json
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from core import jwks, tokens
from core.errors import NotSignedIn, Unavailable
from core.settings import Settings
from tests.support import processes
from tests.support.forged_tokens import forged, relabelled
from tests.support.http import Clients, json_body, new_clients, refused
from tests.support.processes import SECRET, Api, Database

RSA, OLD, STRANGER = (rsa.generate_private_key(65537, 2048) for _ in range(3))
EC = ec.generate_private_key(ec.SECP256R1())


WHOSE = {"JWT_ISSUER": "https://issuer.example", "JWT_AUDIENCE": "greenroom"}


def settings_for(issuer: "Issuer") -> Settings:
    whose = {name.lower(): value for name, value in WHOSE.items()}
    return Settings(jwt_secret=None, jwks_url=issuer.url, **whose)  # type: ignore[arg-type]


class Issuer:
    """A server whose key set the test changes, and which counts who reads it."""

    def __init__(self) -> None:
        self.keys: dict[str, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey] = {"rsa": RSA, "ec": EC}
        self.body: bytes | None = None
        """What it answers instead of the keys."""
        self.status = 200
        self.reads = 0
        self.answering = threading.Event()
        """Cleared: it takes the question and says nothing."""
        self.answering.set()
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.reads += 1
                issuer.answering.wait(60)
                self.send_response(issuer.status)
                self.end_headers()
                self.wfile.write(issuer.body if issuer.body is not None else issuer.document())

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/jwks.json"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def document(self) -> bytes:
        """The key set (RFC 7517, section 5)."""
        keys = []
        for kid, key in self.keys.items():
            algorithm: Any = jwt.algorithms.RSAAlgorithm if kid != "ec" else jwt.algorithms.ECAlgorithm
            keys.append({**algorithm.to_jwk(key.public_key(), as_dict=True), "kid": kid, "use": "sig"})
        return json.dumps({"keys": keys}).encode()

    def close(self) -> None:
        """Stop answering."""
        self.answering.set()
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    running = Issuer()
    yield running
    running.close()


@pytest.fixture
def clients(issuer: Issuer, shared_database: Database, tmp_path: Path) -> Iterator[Clients]:
    with processes.api_process(shared_database.url, tmp_path, JWT_SECRET=None, JWKS_URL=issuer.url, **WHOSE) as api:
        yield new_clients(api)


def get_me(api: Api, token: str) -> httpx.Response:
    headers = {"Authorization": f"Bearer {token}"}
    return httpx.get(f"{api.url}/api/users", headers=headers, timeout=10, trust_env=False)


def signed(user: int, key: Any, algorithm: str, kid: str | None, **more: Any) -> str:
    exp = datetime.now(UTC) + timedelta(hours=1)
    made = {"sub": str(user), "iat": datetime.now(UTC) - timedelta(seconds=1), "exp": exp}
    made |= {"iss": WHOSE["JWT_ISSUER"], "aud": [WHOSE["JWT_AUDIENCE"], "another"], **more}
    return jwt.encode(made, key, algorithm=algorithm, headers={} if kid is None else {"kid": kid})


def test_only_the_issuers_keys_sign_in(clients: Clients, issuer: Issuer) -> None:
    user = clients.people.ids["admin"]
    good = signed(user, RSA, "RS256", "rsa")
    processes.eventually(lambda: get_me(clients.api, good).status_code == 200, "the keys are read")
    for token in (
        good,
        signed(user, EC, "ES256", "ec"),
        signed(user, RSA, "RS512", "rsa", aud=WHOSE["JWT_AUDIENCE"], role="candidate"),
    ):
        json_body(get_me(clients.api, token))
    public = RSA.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    claims = base64.urlsafe_b64decode(good.split(".")[1] + "==")
    wrong = {
        "a stranger's key under a known id": signed(user, STRANGER, "RS256", "rsa"),
        "an unknown key id": signed(user, STRANGER, "RS256", "stranger"),
        "no key id": signed(user, RSA, "RS256", None),
        "our HMAC": signed(user, SECRET, "HS256", "rsa"),
        "the public key as an HMAC secret": forged(b'{"alg":"HS256","kid":"rsa"}', claims, public),
        "alg none": signed(user, None, "none", "rsa"),
        "an EC algorithm on an RSA key": relabelled(good, alg="ES256"),
        "EdDSA on an RSA key": relabelled(good, alg="EdDSA"),
        "an RSA algorithm on an EC key": relabelled(signed(user, EC, "ES256", "ec"), alg="RS256"),
        "a curve that is not the key's": relabelled(signed(user, EC, "ES256", "ec"), alg="ES512"),
        "a key id that is a list": relabelled(good, kid=["rsa"]),
        "a key that comes with the token": relabelled(
            signed(user, STRANGER, "RS256", "rsa"),
            jwk=jwt.algorithms.RSAAlgorithm.to_jwk(STRANGER.public_key(), as_dict=True),
        ),
        "expired": signed(user, RSA, "RS256", "rsa", exp=datetime.now(UTC) - timedelta(seconds=1)),
        "for somebody else": signed(user, RSA, "RS256", "rsa", aud="somebody else"),
        "for nobody": signed(user, RSA, "RS256", "rsa", aud=[]),
        "of another issuer with our keys": signed(user, RSA, "RS256", "rsa", iss="https://issuer.example/"),
    }
    for how, token in wrong.items():
        answer = get_me(clients.api, token)
        assert answer.status_code == 401, how
        refused(answer, 401)


TROUBLE = {
    "an error": (500, b""),
    "a page": (200, b"<html>"),
    "no UTF-8": (200, b"\xff"),
    "no keys": (200, b'{"keys":[]}'),
}


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sets are read again at once when somebody wants one."""
    monkeypatch.setattr(jwks, "PAUSE_SECONDS", 0.05)


@pytest.mark.parametrize("trouble", TROUBLE)
def test_an_issuer_in_trouble_is_not_the_clients_fault(issuer: Issuer, trouble: str, impatient: None) -> None:
    config = settings_for(issuer)
    good = signed(7, RSA, "RS256", "rsa")
    issuer.status, issuer.body = TROUBLE[trouble]
    with pytest.raises(Unavailable, match="issuer"):
        tokens.verify(good, config=config)
    processes.eventually(lambda: issuer.reads > 1, "the set is read again")
    with pytest.raises(Unavailable, match="issuer"):
        tokens.verify(good, config=config)
    issuer.status, issuer.body = 200, None
    assert jwks.key_set(issuer.url).wait(10)
    assert tokens.verify(good, config=config).sub == 7
    issuer.status, issuer.body = TROUBLE[trouble]
    reads = issuer.reads
    with pytest.raises(NotSignedIn):
        tokens.verify(signed(7, STRANGER, "RS256", "stranger"), config=config)
    processes.eventually(lambda: issuer.reads > reads + 1, "the set is read again")
    assert tokens.verify(good, config=config).sub == 7, "the last good set serves on"


def test_made_up_key_ids_with_an_issuer_that_hangs_cost_nobody_a_wait(issuer: Issuer, impatient: None) -> None:
    config = settings_for(issuer)
    good = signed(7, RSA, "RS256", "rsa")
    assert jwks.key_set(issuer.url).wait(10)
    issuer.answering.clear()
    reads, began = issuer.reads, time.monotonic()
    for n in range(200):
        with pytest.raises(NotSignedIn):
            tokens.verify(signed(7, EC, "ES256", f"made-up-{n}"), config=config)
        assert tokens.verify(good, config=config).sub == 7
    assert issuer.reads <= reads + 1, "however many clients, the issuer is asked once"
    assert time.monotonic() - began < jwks.TIMEOUT_SECONDS, "none of them waited for the issuer"


def test_a_new_key_is_known_soon_and_a_withdrawn_one_forgotten(issuer: Issuer, impatient: None) -> None:
    config = settings_for(issuer)
    issuer.keys["old"] = OLD
    old = signed(7, OLD, "RS256", "old")
    assert jwks.key_set(issuer.url).wait(10)
    assert tokens.verify(old, config=config).sub == 7
    del issuer.keys["old"]
    issuer.keys["new"] = STRANGER
    new = signed(7, STRANGER, "RS256", "new")

    def known() -> bool:
        try:
            return tokens.verify(new, config=config).sub == 7
        except NotSignedIn:
            return False

    processes.eventually(known, "the new key is known")
    with pytest.raises(NotSignedIn):
        tokens.verify(old, config=config)
    assert tokens.verify(signed(7, EC, "ES256", "ec"), config=config).sub == 7


def test_before_the_first_set_the_answer_is_503_and_not_401(shared_database: Database, tmp_path: Path) -> None:
    issuer = Issuer()
    issuer.status = 500
    with processes.api_process(shared_database.url, tmp_path, JWT_SECRET=None, JWKS_URL=issuer.url, **WHOSE) as api:
        clients = new_clients(api)
        answer = get_me(api, signed(clients.people.ids["admin"], RSA, "RS256", "rsa"))
        refused(answer, 503, "issuer")  # a client that got 401 would sign its user out
        assert int(answer.headers["retry-after"]) > 0
    issuer.close()

"""Tokens of an outside issuer, whose public keys are read from a JWKS URL."""

import base64
import json
import threading
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

from core import tokens
from core.errors import NotSignedIn, Unavailable
from core.settings import Settings
from tests.support import processes
from tests.support.forged_tokens import forged, relabelled
from tests.support.http import Clients, json_body, new_clients, refused
from tests.support.processes import SECRET, Api, Database

RSA, OLD, STRANGER = (rsa.generate_private_key(65537, 2048) for _ in range(3))
EC = ec.generate_private_key(ec.SECP256R1())


class Issuer:
    """A server whose key set the test changes."""

    def __init__(self) -> None:
        self.keys: dict[str, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey] = {"rsa": RSA, "ec": EC}
        self.body: bytes | None = None
        """What it answers instead of the keys."""
        self.status = 200
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
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
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    running = Issuer()
    yield running
    running.close()


@pytest.fixture
def clients(issuer: Issuer, shared_database: Database, tmp_path: Path) -> Iterator[Clients]:
    with processes.api_process(shared_database.url, tmp_path, JWT_SECRET=None, JWKS_URL=issuer.url) as api:
        yield new_clients(api)


def get_me(api: Api, token: str) -> httpx.Response:
    headers = {"Authorization": f"Bearer {token}"}
    return httpx.get(f"{api.url}/api/users", headers=headers, timeout=10, trust_env=False)


def signed(user: int, key: Any, algorithm: str, kid: str | None, **more: Any) -> str:
    exp = datetime.now(UTC) + timedelta(hours=1)
    made = {"sub": str(user), "iat": datetime.now(UTC) - timedelta(seconds=1), "exp": exp, **more}
    return jwt.encode(made, key, algorithm=algorithm, headers={} if kid is None else {"kid": kid})


def test_only_the_issuers_keys_sign_in(clients: Clients, issuer: Issuer) -> None:
    user = clients.people.ids["admin"]
    good = signed(user, RSA, "RS256", "rsa")
    issuer.status = 500
    away = get_me(clients.api, good)
    refused(away, 503, "issuer")  # not 401: a client that was told so would sign its user out
    assert int(away.headers["retry-after"]) > 0
    issuer.status = 200
    for token in (
        good,
        signed(user, EC, "ES256", "ec"),
        signed(user, RSA, "RS512", "rsa", aud="somebody else", role="candidate"),
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


@pytest.mark.parametrize("trouble", TROUBLE)
def test_a_failing_issuer_gives_503_and_not_401(issuer: Issuer, trouble: str) -> None:
    config = Settings(jwt_secret=None, jwks_url=issuer.url)
    good = signed(7, RSA, "RS256", "rsa")
    issuer.status, issuer.body = TROUBLE[trouble]
    with pytest.raises(Unavailable, match="issuer"):
        tokens.verify(good, config=config)
    issuer.status, issuer.body = 200, None
    assert tokens.verify(good, config=config).sub == 7


def test_a_removed_key_is_refused_after_the_next_read_of_the_key_set(issuer: Issuer) -> None:
    config = Settings(jwt_secret=None, jwks_url=issuer.url)
    issuer.keys["old"] = OLD
    old = signed(7, OLD, "RS256", "old")
    assert tokens.verify(old, config=config).sub == 7
    del issuer.keys["old"]
    cache = tokens._keys(issuer.url).jwk_set_cache
    assert cache is not None
    cache.lifespan = 0
    with pytest.raises(NotSignedIn):
        tokens.verify(old, config=config)
    assert tokens.verify(signed(7, EC, "ES256", "ec"), config=config).sub == 7

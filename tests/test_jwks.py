"""Tokens of an outside issuer, whose public keys are read from a JWKS URL."""

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

from tests import parts
from tests.asking import Asking, asking, done, refused
from tests.parts import SECRET, Api, Database

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
def ask(issuer: Issuer, shared_database: Database, tmp_path: Path) -> Iterator[Asking]:
    with parts.api_process(shared_database.url, tmp_path, JWT_SECRET=None, JWKS_URL=issuer.url) as api:
        yield asking(api)


def look(api: Api, token: str) -> httpx.Response:
    return httpx.get(f"{api.url}/api/users", headers={"Authorization": f"Bearer {token}"}, timeout=10, trust_env=False)


def signed(ask: Asking, key: Any, algorithm: str, kid: str | None, **more: Any) -> str:
    exp = datetime.now(UTC) + timedelta(hours=1)
    made = {"sub": str(ask.people.ids["admin"]), "iat": datetime.now(UTC) - timedelta(seconds=1), "exp": exp, **more}
    return jwt.encode(made, key, algorithm=algorithm, headers={} if kid is None else {"kid": kid})


def test_only_the_issuers_keys_sign_in(ask: Asking, issuer: Issuer) -> None:
    done(look(ask.api, signed(ask, RSA, "RS256", "rsa")))
    done(look(ask.api, signed(ask, EC, "ES256", "ec")))
    done(look(ask.api, signed(ask, RSA, "RS512", "rsa", aud="somebody else", role="candidate")))
    public = RSA.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    wrong = {
        "a stranger's key under a known id": signed(ask, STRANGER, "RS256", "rsa"),
        "an unknown key id": signed(ask, STRANGER, "RS256", "stranger"),
        "no key id": signed(ask, RSA, "RS256", None),
        "our HMAC": signed(ask, SECRET, "HS256", "rsa"),
        "the public key as an HMAC secret": _hmac(ask, public),
        "alg none": signed(ask, None, "none", "rsa"),
        "an EC algorithm on an RSA key": _relabelled(signed(ask, RSA, "RS256", "rsa"), "ES256"),
        "an RSA algorithm on an EC key": _relabelled(signed(ask, EC, "ES256", "ec"), "RS256"),
        "EdDSA on an RSA key": _relabelled(signed(ask, RSA, "RS256", "rsa"), "EdDSA"),
        "a key id that is a list": _relabelled(signed(ask, RSA, "RS256", "rsa"), "RS256", kid=["rsa"]),
        "expired": signed(ask, RSA, "RS256", "rsa", exp=datetime.now(UTC) - timedelta(seconds=1)),
    }
    for how, token in wrong.items():
        answer = look(ask.api, token)
        assert answer.status_code == 401, how
        refused(answer, 401)


def _hmac(ask: Asking, secret: bytes) -> str:
    import base64  # noqa: PLC0415
    import hmac  # noqa: PLC0415

    head, body, _ = _relabelled(signed(ask, RSA, "RS256", "rsa"), "HS256").split(".")
    signature = hmac.digest(secret, f"{head}.{body}".encode(), "sha256")
    return f"{head}.{body}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"

"""Settings: a bad one stops every start with its name and the reason; and tokens at the terminal."""

import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import jwt
import pytest

from core import settings as core_settings
from core.db import transaction
from core.errors import BadSettings, Invalid
from core.models import User
from deployments.tokens import token_for
from tests.support import factories as make
from tests.support.processes import ROOT, SECRET, Database

NOWHERE = "postgresql://greenroom:hunter2@127.0.0.1:1/greenroom"


@pytest.fixture
def nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """No setting of ours, and no .env."""
    for name in [name for name in os.environ if name.startswith(("GREENROOM_", "PREFECT_"))]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return monkeypatch


def greenroom(folder: Path, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """The command, run in this folder with these settings."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GREENROOM_")}
    environment |= {f"GREENROOM_{name}": value for name, value in settings.items()} | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-m", "deployments.cli", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def error_message(ended: subprocess.CompletedProcess[str], code: int, *says: str) -> None:
    assert ended.returncode == code, ended.stderr
    assert ended.stdout == ""
    assert ended.stderr.count("\n") == 1, ended.stderr
    for word in ("greenroom: ", *says):
        assert word in ended.stderr


BAD = [
    ("DATABASE_URL", "mysql://u:hunter2@h/d", "postgresql://"),
    ("DATABASE_URL", "", "postgresql://"),
    ("DATABASE_URL", "postgresql:///d", "postgresql://"),
    ("DATABASE_URL", "postgresql://u:hunter2@h:http/d", "Port"),
    ("DATABASE_URL", "postgresql://u:hunter2@h:99999/d", "Port"),
    ("DATABASE_URL", "postgresql://u:hunter2@[::1/d", "IPv6"),
    ("DATABASE_URL", "postgresql://u@h/d?pasword=hunter2", "pasword"),
    ("DATABASE_URL", "mysql://h/d?user=u&password=hunter2", "postgresql://"),
    ("DATABASE_URL", "mysql://u:hunter2@hunter2/@h/d", "postgresql://"),
    ("SMTP_URL", "imap://u:hunter2@h", "smtp://"),
    ("SMTP_URL", "smtp://u:hunter2@h:x", "Port"),
    ("PUBLIC_URL", "localhost:8080", "http://"),
    ("JWKS_URL", "file:///etc/passwd", "http://"),
    ("JWT_SECRET", "hunter2", "32"),
    ("JWT_SECRET", "", "32"),
    ("JWT_SECRET", "at-least-32-characters-of-randomness", "example"),
    ("LINK_SECRET", "at-least-32-characters-of-randomness", "example"),
    ("JWT_SECRET", "hunter2" * 6 + "h", "different characters"),
    ("LINK_SECRET", "abcabcabcabcabcabcabcabcabcabcabcabc", "different characters"),
    ("ALLOWED_ORIGINS", "https://a.example, b.example", "b.example"),
    ("ALLOWED_ORIGINS", "https://a.example/path", "origin"),
    ("TIMEZONE", "Mars/Base", "IANA"),
    ("TIMEZONE", "", "IANA"),
    ("TIMEZONE", "../etc/passwd", "IANA"),
    ("TIMEZONE", "Europe", "IANA"),
    ("PORT", "0", "1"),
    ("PORT", "65536", "65535"),
    ("PORT", "http", "integer"),
    ("CAPTURE_PORT", "1e3", "integer"),
    ("WS_FRAME_BYTES", "-1", "0"),
    ("WS_CONNECT_SECONDS", "nan", "0"),
]


@pytest.mark.parametrize(("name", "value", "reason"), BAD)
def test_a_bad_value_is_named_with_the_reason(
    nothing_set: pytest.MonkeyPatch, name: str, value: str, reason: str
) -> None:
    nothing_set.setenv(f"GREENROOM_{name}", value)
    with pytest.raises(BadSettings) as error:
        core_settings.load()
    assert error.value.reasons.keys() == {f"GREENROOM_{name}"}
    assert reason in str(error.value)
    assert "hunter2" not in str(error.value)


@pytest.mark.parametrize("command", ["up", "api", "worker", "dispatcher", "migrate", "demo", "token --demo"])
def test_no_command_starts_with_bad_settings(tmp_path: Path, command: str) -> None:
    """All that is wrong is said at once, and what is secret is not."""
    bad = {"PORT": "http", "TIMEZONE": "Mars/Base", "DATABASE_URL": "mysql://u:hunter2@h/d", "JWT_SECRET": "hunter2"}
    ended = greenroom(tmp_path, *command.split(), **bad)
    assert ended.returncode == 2, ended.stderr
    assert ended.stdout == ""
    named = sorted(line.split(": ")[1] for line in ended.stderr.splitlines())
    assert named == sorted(f"GREENROOM_{name}" for name in bad)
    assert "hunter2" not in ended.stderr
    assert list(tmp_path.iterdir()) == []


def test_dot_env_is_read_and_the_environment_wins(tmp_path: Path, nothing_set: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text("GREENROOM_PORT=8123\nGREENROOM_TIMEZONE='Europe/Lisbon'\nUNKNOWN=1\n")
    assert (core_settings.load().port, core_settings.load().timezone) == (8123, "Europe/Lisbon")
    nothing_set.setenv("GREENROOM_PORT", "8124")
    assert core_settings.load().port == 8124
    (tmp_path / ".env").write_bytes(b"GREENROOM_PORT=80\xff\n")
    with pytest.raises(BadSettings) as error:
        core_settings.load()
    assert error.value.reasons.keys() == {".env"}
    (tmp_path / ".env").write_text("GREENROOM_PORT=eighty\n")
    nothing_set.delenv("GREENROOM_PORT")
    error_message(greenroom(tmp_path, "token", "--demo"), 2, "GREENROOM_PORT", "integer", "eighty")


def test_a_name_that_nothing_reads_stops_every_command_with_the_nearest(tmp_path: Path) -> None:
    ended = greenroom(tmp_path, "token", "--demo", DATABASE_URL=NOWHERE, JWT_SECRET=SECRET, WS_SUBSCRIPTION="5")
    error_message(ended, 2, "GREENROOM_WS_SUBSCRIPTION", "no setting", "did you mean GREENROOM_WS_SUBSCRIPTIONS?")
    (tmp_path / ".env").write_text("GREENROOM_ZZZZZZZZ=1\nZZZ=1\n")
    error_message(greenroom(tmp_path, "migrate", DATABASE_URL=NOWHERE), 2, "GREENROOM_ZZZZZZZZ: is no setting")


def test_an_outside_issuer_needs_its_name_and_our_audience(nothing_set: pytest.MonkeyPatch) -> None:
    nothing_set.setenv("GREENROOM_JWKS_URL", "https://issuer.example.com/jwks.json")
    with pytest.raises(BadSettings) as error:
        core_settings.load()
    assert error.value.reasons.keys() == {"GREENROOM_JWT_ISSUER", "GREENROOM_JWT_AUDIENCE"}
    nothing_set.setenv("GREENROOM_JWT_ISSUER", "https://issuer.example.com")
    nothing_set.setenv("GREENROOM_JWT_AUDIENCE", "greenroom")
    assert core_settings.load().jwt_audience == "greenroom"


def test_without_a_way_to_check_tokens_the_api_refuses_to_start(tmp_path: Path) -> None:
    error_message(greenroom(tmp_path, "api", DATABASE_URL=NOWHERE), 2, "GREENROOM_JWT_SECRET", "JWKS_URL")


def test_without_a_database_the_error_has_instructions(tmp_path: Path) -> None:
    error_message(greenroom(tmp_path, "migrate"), 2, "GREENROOM_DATABASE_URL", "greenroom up")


def test_the_local_stacks_database_and_secret_are_found(tmp_path: Path, shared_database: Database) -> None:
    with transaction() as db:
        user = make.people(db).ids["admin"]
    (tmp_path / "var" / "run").mkdir(parents=True)
    (tmp_path / "var" / "run" / "database_url").write_text(shared_database.url + "\n")
    (tmp_path / "var" / "jwt_secret").write_text(SECRET + "\n")
    ended = greenroom(tmp_path, "token", "--sub", str(user))
    assert jwt.decode(ended.stdout.strip(), SECRET, ["HS256"])["sub"] == str(user)


def test_an_unreachable_or_empty_database_is_a_short_error(tmp_path: Path, shared_database: Database) -> None:
    ended = greenroom(tmp_path, "token", "--demo", DATABASE_URL=NOWHERE, JWT_SECRET=SECRET)
    error_message(ended, 1, "the database cannot be reached")
    assert "hunter2" not in ended.stderr
    empty = shared_database.url.rsplit("/", 1)[0] + "/postgres"
    error_message(greenroom(tmp_path, "token", "--demo", DATABASE_URL=empty, JWT_SECRET=SECRET), 1, "greenroom migrate")


def test_the_demos_tokens(tmp_path: Path, database: str) -> None:
    with transaction() as db:
        people = make.people(db)
    ended = greenroom(tmp_path, "token", "--demo", DATABASE_URL=database, JWT_SECRET=SECRET)
    lines = [line.split() for line in ended.stdout.splitlines()]
    assert [role for role, _, _ in lines] == ["admin", "recruiter", "interviewer", "candidate"]
    assert [jwt.decode(token, SECRET, ["HS256"])["sub"] for *_, token in lines] == [str(n) for n in people.ids.values()]
    assert ended.stderr == ""


def test_only_the_token_is_printed(tmp_path: Path, shared_database: Database) -> None:
    with transaction() as db:
        user = db.get_one(User, make.people(db).ids["recruiter"])
    given = {"DATABASE_URL": shared_database.url, "JWT_SECRET": SECRET}
    ended = greenroom(tmp_path, "token", "--user", user.email.upper(), **given)
    assert (ended.returncode, ended.stderr, ended.stdout.count("\n")) == (0, "", 1)
    claims = jwt.decode(ended.stdout.strip(), SECRET, ["HS256"])
    assert (claims["sub"], claims["role"], claims["ver"]) == (str(user.id), "recruiter", 1)
    assert claims["exp"] > claims["iat"]
    error_message(greenroom(tmp_path, "token", "--user", "nobody@example.com", **given), 1, "nobody@example.com")


def test_selecting_the_user_of_a_token(shared_database: Database) -> None:
    with transaction() as db:
        people = make.people(db)
        db.get_one(User, people.ids["recruiter"]).deleted_at = datetime.now(UTC)
    user = people.ids["candidate"]
    for role, claimed in ((None, "candidate"), ("admin", "admin")):
        claims = jwt.decode(token_for(email=None, sub=user, role=role), SECRET, ["HS256"])
        assert (claims["sub"], claims["role"]) == (str(user), claimed)
    for email, sub, role, says in (
        (None, None, None, "--user"),
        ("a@b", 1, None, "--user"),
        ("", None, None, "--user"),
        (None, 0, None, "--sub"),
        (None, 2**62, None, str(2**62)),
        (None, 2**64, None, str(2**64)),
        (None, people.ids["recruiter"], None, "--sub"),
        (None, user, "king", "king"),
    ):
        with pytest.raises(Invalid, match=says):
            token_for(email=email, sub=sub, role=role)

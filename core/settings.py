"""Every setting of Greenroom, typed, from ``GREENROOM_*`` variables and ``.env``."""

import os
import re
import stat
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from pydantic import Field, ValidationError, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from core.errors import BadSettings
from core.settings_errors import PREFIX, reason, setting_name, unknown_names

EXAMPLE_SECRET = "at-least-32-characters-of-randomness"  # noqa: S105 - to be refused
FEWEST_CHARACTERS = 8
"""Different ones of a secret: 32 random hexadecimal digits have fewer once in 28 million times."""


SMTP_PORTS = {"smtp": 25, "smtp+starttls": 587, "smtps": 465}
"""The port of each scheme of SMTP_URL, where it names none."""


class Settings(BaseSettings):
    """The settings, validated; ``load()`` turns validation errors into ``BadSettings``."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_file=".env", extra="ignore", frozen=True)

    database_url: str | None = Field(None, description="PostgreSQL to use; absent: the embedded server")
    smtp_token_file: Path | None = Field(
        None, description="file with the OAuth access token to log in with (XOAUTH2); SMTP_URL names the user alone"
    )
    smtp_url: str | None = Field(
        None,
        validate_default=True,
        description="smtp://, smtp+starttls:// or smtps:// server to use; absent: the capture server",
    )
    email_concurrency: int = Field(5, ge=2, le=5, description="SMTP connections of a dispatcher")
    email_rate: float = Field(0, ge=0, description="mails a second, of all dispatchers together; 0: any number")
    public_url: str = Field("http://localhost:8080", description="where browsers reach this deployment")
    mail_from: str = Field(
        default_factory=lambda known: f"Greenroom <greenroom@{_mail_host(known.get('public_url', ''))}>",
        description='who mails are from, "Name <address>" or an address alone; absent: greenroom at PUBLIC_URL\'s host',
    )
    session_url: str | None = Field(None, description="where people open a session, with {id}; absent: the board")
    jwt_secret: str | None = Field(None, min_length=32, repr=False, description="HS256 secret of the tokens")
    jwks_url: str | None = Field(None, description="an outside issuer's keys, instead of JWT_SECRET")
    jwt_issuer: str | None = Field(
        None, min_length=1, validate_default=True, description="the iss that tokens must have; needed with JWKS_URL"
    )
    jwt_audience: str | None = Field(
        None, min_length=1, validate_default=True, description="the aud that tokens must have; needed with JWKS_URL"
    )
    allowed_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Origins that may open a socket; absent: the server's own and any port of localhost"
    )
    link_secret: str | None = Field(
        None, min_length=32, repr=False, description="signs the links in mails; absent: JWT_SECRET does"
    )
    email_queue_capacity: int = Field(100, ge=0, description="on-demand mails that may wait; 0: any number")
    report_concurrency: int = Field(2, ge=1, le=5, description="reports that a dispatcher renders at once")
    report_queue_capacity: int = Field(50, ge=0, description="requested reports that may be unfinished; 0: any number")
    retention_days: int = Field(30, ge=1, description="days that abandoned and expired sessions stay in lists")
    timezone: str = Field("UTC", description="the platform's zone for schedules and daily reports")
    host: str = Field("127.0.0.1", description="the address the API listens on")
    port: int = Field(8080, ge=1, le=65535, description="the port the API listens on")
    capture_port: int = Field(1025, ge=1, le=65535, description="the mail-capture server's port")
    captured_mail: Path | None = Field(
        None, description="folder of captured mails, shown under /mail; the local stack sets it, absent: no such page"
    )
    metrics_public: bool = Field(False, description="/metrics answers everybody, not only this machine")
    state_dir: Path = Field(Path("var"), description="where the local stack keeps its state")
    browser_path: Path | None = Field(None, description="the Chromium that prints reports; absent: an installed one")

    prefect_api_url: str = Field(
        "http://127.0.0.1:4200/api", validation_alias="PREFECT_API_URL", description="Prefect's own setting"
    )
    prefect_api_auth_string: str | None = Field(
        None, validation_alias="PREFECT_API_AUTH_STRING", repr=False, description="Prefect's own setting"
    )

    ws_heart_beat_ms: int = Field(10_000, ge=0, description="heart-beats each way, in milliseconds; 0: none")
    ws_frame_bytes: int = Field(65536, ge=0, description="largest STOMP frame a client may send; 0: any")
    ws_connect_seconds: float = Field(60, ge=0, description="time to CONNECT after the socket opens; 0: any")
    ws_subscriptions: int = Field(50, ge=0, description="subscriptions a connection may hold; 0: any")
    ws_queue_bytes: int = Field(524288, ge=0, description="bytes that may wait for a slow consumer; 0: any")
    ws_send_seconds: float = Field(10, ge=0, description="time one write to a consumer may take; 0: any")

    @field_validator("allowed_origins", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("allowed_origins")
    @classmethod
    def _origin(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for origin in value:
            parts = urlsplit(origin)
            if origin != "*" and (not parts.scheme or not parts.netloc or parts.path):
                raise ValueError(f"{origin!r} is no origin; write it like https://app.example.com")
        return value

    @field_validator("timezone")
    @classmethod
    def _zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (KeyError, ValueError, OSError) as error:
            raise ValueError(f"{value!r} is no IANA time zone; write it like Europe/Lisbon") from error
        return value

    @field_validator("database_url", "smtp_url", "public_url", "jwks_url", "prefect_api_url")
    @classmethod
    def _url(cls, value: str | None, info: ValidationInfo) -> str | None:
        schemes = {
            "database_url": ("postgresql", "postgres"),
            "smtp_url": ("smtp", "smtp+starttls", "smtps"),
            "public_url": ("http", "https"),
            "jwks_url": ("http", "https"),
            "prefect_api_url": ("http", "https"),
        }[info.field_name or ""]
        if value is not None and (urlsplit(value).scheme not in schemes or not urlsplit(value).netloc):
            raise ValueError(f"must be a URL like {schemes[0]}://host/…")
        if value is not None:
            # Raises ValueError for an invalid port here, where the setting's name is still known.
            _ = urlsplit(value).port
        if value is not None and info.field_name == "database_url":
            _check_conninfo(value)
        return value

    @field_validator("smtp_token_file")
    @classmethod
    def _token_file(cls, value: Path | None) -> Path | None:
        if value is not None:
            try:
                found, token = value.stat(), value.read_text("latin-1").strip()
            except OSError as error:
                raise ValueError(f"cannot be read: {error.strerror}") from None
            # a group's read bit is needed where the file is somebody else's, as a mounted secret is
            others = stat.S_IROTH | (stat.S_IRGRP if found.st_uid == os.geteuid() else 0)
            if found.st_mode & others:
                raise ValueError("can be read by others; chmod 600 it")
            if not token or not token.isascii() or not token.isprintable():
                raise ValueError("holds no token")
        return value

    @field_validator("smtp_url")
    @classmethod
    def _smtp(cls, value: str | None, info: ValidationInfo) -> str | None:
        token_file = info.data.get("smtp_token_file")
        if value is None:
            if token_file is not None:
                raise _wrong("smtp_token_file", "needs SMTP_URL")
            return value
        parts = urlsplit(value)
        if not parts.hostname or parts.path.strip("/") or parts.query or parts.port == 0:
            raise ValueError("must be a server like smtp+starttls://user:password@mail.example.com:587")
        if token_file is None:
            # not where a token file was set and is wrong: that is said already
            if (parts.username is None) != (parts.password is None) and "smtp_token_file" in info.data:
                raise ValueError("names a user or a password, and not both")
        elif parts.scheme == "smtp":
            raise _wrong("smtp_token_file", "needs TLS: an SMTP_URL that begins with smtps:// or smtp+starttls://")
        elif not parts.username or parts.password is not None:
            raise _wrong("smtp_token_file", "needs an SMTP_URL that names the user alone, like smtps://user@host")
        return value

    @field_validator("jwt_secret", "link_secret")
    @classmethod
    def _hard_to_guess(cls, value: str | None) -> str | None:
        if value is not None and value.strip() == EXAMPLE_SECRET:
            raise ValueError("is the example's own, which everybody knows; make one with: openssl rand -base64 48")
        if value is not None and len(set(value)) < FEWEST_CHARACTERS:
            raise ValueError(
                f"has fewer than {FEWEST_CHARACTERS} different characters; make one with: openssl rand -base64 48"
            )
        return value

    @field_validator("jwt_issuer", "jwt_audience")
    @classmethod
    def _whose_tokens(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is None and info.data.get("jwks_url") and not info.data.get("jwt_secret"):
            raise ValueError("is needed with JWKS_URL: else every token of that issuer, made for whomever, would do")
        return value

    @field_validator("mail_from")
    @classmethod
    def _sender(cls, value: str) -> str:
        if not _SENDER.fullmatch(value):
            raise ValueError("is no sender; write it like Greenroom <greenroom@example.com>")
        return value

    @field_validator("session_url")
    @classmethod
    def _session_url(cls, value: str | None) -> str | None:
        if value is not None and (urlsplit(value).scheme not in ("http", "https") or "{id}" not in value):
            raise ValueError("must be a URL like https://app.example.com/interviews/{id}")
        return value

    def session_page(self, session_id: object) -> str:
        """The address of a session's page, for those who may see it: ``SESSION_URL``, or the board."""
        return (self.session_url or self.public_url.rstrip("/") + "/#session/{id}").replace("{id}", str(session_id))

    @property
    def database_file(self) -> Path:
        """Where the running local stack writes the embedded server's URL for other commands."""
        return self.state_dir / "run" / "database_url"

    def database(self) -> str:
        """The URL of the database to use.

        Raises BadSettings when none is set and no local stack is running.
        """
        if self.database_url:
            return self.database_url
        try:
            return self.database_file.read_text().strip()
        except FileNotFoundError:
            raise BadSettings(
                {"GREENROOM_DATABASE_URL": "not set, and no local stack is running; start one with: greenroom up"}
            ) from None

    def secret(self) -> str | None:
        """The HS256 secret: ``JWT_SECRET``, or the one that the local stack stored; None when only JWKS is set.

        Raises BadSettings when there is none of the three.
        """
        if self.jwt_secret:
            return self.jwt_secret
        if self.jwks_url:
            return None
        kept = self.state_dir / "jwt_secret"
        if kept.exists():
            return kept.read_text().strip()
        raise BadSettings({"GREENROOM_JWT_SECRET": "not set, nor JWKS_URL; tokens could not be checked"})


_SENDER = re.compile(r"[^\x00-\x1f\x7f-\x9f<>]*<[^\s<>@]+@[^\s<>@]+>|[^\s<>@]+@[^\s<>@]+")


def _wrong(setting: str, reason: str) -> PydanticCustomError:
    """An error of another setting than the one that is being validated."""
    return PydanticCustomError("wrong", "{reason}", {"setting": setting, "reason": reason})


def _check_conninfo(url: str) -> None:
    import psycopg  # noqa: PLC0415 - the local stack's supervisor stays free of database drivers

    try:
        psycopg.conninfo.conninfo_to_dict(url)
    except psycopg.ProgrammingError as error:
        raise ValueError(str(error).strip()) from None


def _mail_host(public_url: str) -> str:
    """The host of our own mail addresses; not an IPv6 address, whose brackets few mail programs accept."""
    host = urlsplit(public_url).hostname or "localhost"
    return "localhost" if ":" in host else host


def load() -> Settings:
    """Read the settings from the environment and ``.env``.

    Raises BadSettings with the name of every invalid setting and the reason.
    """
    try:
        wrong = unknown_names(Settings.model_fields)
        found = Settings()
    except ValidationError as error:
        # an error that only follows from another is not named
        errors = [dict(e) for e in error.errors() if e["type"] != "default_factory_not_called"]
        raise BadSettings(wrong | {setting_name(e): reason(e) for e in errors}) from None
    except (OSError, UnicodeDecodeError) as error:
        raise BadSettings({".env": f"cannot be read: {error}"}) from None
    if wrong:
        raise BadSettings(wrong)
    return found


@lru_cache(maxsize=1)
def settings() -> Settings:
    """The process's settings, read once."""
    return load()

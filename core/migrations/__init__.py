"""Alembic migrations, and the one call that applies them."""

from pathlib import Path

from alembic import command
from alembic.config import Config

from core.settings import settings


def config(url: str | None = None) -> Config:
    """Alembic's configuration for the database at ``url`` (absent: the settings')."""
    made = Config()
    made.set_main_option("script_location", str(Path(__file__).parent))
    made.attributes["url"] = url or settings().database()
    return made


def migrate(url: str | None = None) -> None:
    """Bring the database to the newest schema; safe to run by several processes at once."""
    command.upgrade(config(url), "head")

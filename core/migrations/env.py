"""Runs migrations under one advisory lock, so that two processes starting at once apply each migration once."""

from alembic import context
from sqlalchemy import NullPool, create_engine, text

from core.db import driver_url
from core.locks import LOCKS, MIGRATION_LOCK
from core.migrations import derived_checks
from core.models import Base
from core.settings import settings

url = context.config.attributes.get("url") or settings().database()

with create_engine(driver_url(url), poolclass=NullPool).connect() as connection:
    connection.execute(text(f"SELECT pg_advisory_lock({LOCKS}, {MIGRATION_LOCK})"))
    connection.commit()
    context.configure(connection=connection, target_metadata=Base.metadata, compare_server_default=True)
    with context.begin_transaction():
        context.run_migrations()
    connection.commit()
    derived_checks.widen(connection)

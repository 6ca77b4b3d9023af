"""What all tables share: the naming of constraints, and column types."""

from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Any

from sqlalchemy import BigInteger, CheckConstraint, DateTime, Identity, MetaData, Text, func
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, mapped_column


class Base(DeclarativeBase):
    """The declarative base; names of constraints are fixed, because errors are identified by them."""

    metadata = MetaData(
        naming_convention={
            "ix": "%(table_name)s_%(column_0_N_name)s",
            "uq": "%(table_name)s_%(column_0_N_name)s_key",
            "ck": "%(table_name)s_%(constraint_name)s_check",
            "fk": "%(table_name)s_%(column_0_N_name)s_fkey",
            "pk": "%(table_name)s_pkey",
        }
    )
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy reads it as a plain attribute
        str: Text,
        datetime: DateTime(timezone=True),
        dict[str, Any]: JSONB,
    }


BigId = Annotated[int, mapped_column(BigInteger, Identity(always=False), primary_key=True)]
Created = Annotated[datetime, mapped_column(server_default=func.clock_timestamp())]
EmptyObject = Annotated[dict[str, Any], mapped_column(JSONB, server_default="{}")]


def one_of(column: str, values: Iterable[str]) -> CheckConstraint:
    """A check that a text column holds one of the values."""
    listed = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{column} IN ({listed})", name=column)

"""The CHECK constraints that follow a table in the code: a new mail kind or report type needs no migration."""

import re

from sqlalchemy import Connection, text

from core.emails.kinds import KINDS
from core.reports.registry import REPORTS

DERIVED: dict[tuple[str, str], tuple[str, ...]] = {
    ("emails", "kind"): tuple(KINDS),
    ("reports", "type"): tuple(REPORTS),
}
"""Table and column, and the values that the code defines for it."""

_READ = text("""
    SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = :name AND conrelid = to_regclass(:table)
""")


def widen(connection: Connection) -> None:
    """Extend each CHECK by the values that the code defines and it does not allow yet; no value is removed.

    An older release that still runs may write values that only it knows. Validating takes no lock that stops writers.
    """
    for (table, column), values in DERIVED.items():
        name = f"{table}_{column}_check"
        found = connection.execute(_READ, {"name": name, "table": table}).scalar_one_or_none()
        if found is None:
            continue
        allowed = re.findall(r"'((?:[^']|'')*)'", found)
        if set(values) <= set(allowed):
            continue
        listed = ", ".join(f"'{value}'" for value in dict.fromkeys((*allowed, *values)))
        connection.execute(
            text(
                f"ALTER TABLE {table} DROP CONSTRAINT {name}, "
                f"ADD CONSTRAINT {name} CHECK ({column} IN ({listed})) NOT VALID"
            )
        )
        connection.commit()
        connection.execute(text(f"ALTER TABLE {table} VALIDATE CONSTRAINT {name}"))
        connection.commit()

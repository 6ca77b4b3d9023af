"""EMAIL_RATE: turns that all dispatchers take from one row."""

from datetime import timedelta

from sqlalchemy import text
from sqlalchemy.orm import Session

_TAKE_TURN = text("""
    INSERT INTO email_pace AS pace (next_at) VALUES (clock_timestamp() + CAST(:gap AS interval))
    ON CONFLICT (one) DO UPDATE SET next_at = greatest(pace.next_at, clock_timestamp()) + CAST(:gap AS interval)
    RETURNING extract(epoch FROM pace.next_at - CAST(:gap AS interval) - clock_timestamp())
""")


def take_turn(db: Session, rate: float) -> float:
    """Take the next turn of ``rate`` mails a second, shared by all dispatchers; returns the seconds until it comes."""
    # losing the last turns in a crash of the server does no harm, so the commit need not wait for the disk
    db.execute(text("SET LOCAL synchronous_commit = off"))
    seconds = db.execute(_TAKE_TURN, {"gap": timedelta(seconds=1 / rate)}).scalar_one()
    return max(0.0, float(seconds))

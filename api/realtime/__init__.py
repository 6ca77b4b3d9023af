"""Live updates: every row of the outbox's log to every socket that may see it, in order, without gaps."""

"""Live updates: the outbox's log to every socket that may see it, in order, none missing."""

"""The mail queue: what is stored, who may send it now, and what became of it."""

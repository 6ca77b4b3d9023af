"""The report queue: what was asked for, who makes it now, and what became of it."""

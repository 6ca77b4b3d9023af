"""The mail queue: enqueue, claims, outcomes, suppressions."""

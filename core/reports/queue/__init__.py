"""The report queue: enqueue, claims, outcomes, daily reports."""

"""Mails: what they say, the queue, and what became of each."""

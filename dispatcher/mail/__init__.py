"""Sending mail: SMTP, the senders, and the record that Prefect keeps of it."""

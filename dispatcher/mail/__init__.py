"""Sending mail: SMTP, the hands that do it, and the record that Prefect keeps of it."""

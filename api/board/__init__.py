"""Pages for a browser: the captured mails of the local stack, and reports."""

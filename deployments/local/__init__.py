"""The one-command stack: every part as a child process of one supervisor, behind ``greenroom up``."""

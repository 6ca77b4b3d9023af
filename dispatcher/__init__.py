"""The long-lived process that does what cannot wait for a schedule."""

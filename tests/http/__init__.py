"""The API over HTTP, as a process of its own; these tests share one, and each makes people of its own."""

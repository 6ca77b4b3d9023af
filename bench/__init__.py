"""Benchmarks: each module prints a table; docs/benchmarks.md has the results with their commands."""

"""Speed, measured: each module prints what docs/benchmarks.md keeps, with the command that made it."""

"""Charts: each family of them in a module, each chart with its finding."""

"""Making reports: the dispatcher's renderer, and the record that Prefect keeps of it."""

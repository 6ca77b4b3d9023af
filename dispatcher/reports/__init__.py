"""The dispatcher's report renderer, and its recording as Prefect flow runs."""

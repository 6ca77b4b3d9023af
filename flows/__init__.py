"""When: Prefect flows, each a headline over one core function."""

"""What is true: tables, rules, events. No Prefect, no FastAPI, no broadcaster."""

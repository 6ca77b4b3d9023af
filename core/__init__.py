"""The tables, rules and events of Greenroom. No Prefect, no FastAPI, no broadcaster."""

"""prefect.yaml on a Prefect server: deployments, schedules, work pools."""

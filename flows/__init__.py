"""Tasks composed into Prefect flows; no logic of their own."""

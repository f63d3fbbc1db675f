"""The Prefect tasks, and what a flow run adds to them: its context, its log, its cancelling."""

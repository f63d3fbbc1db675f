"""Between the ledger and Prefect: tasks become flow runs, flow runs end tasks."""

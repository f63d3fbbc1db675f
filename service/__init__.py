"""The service: accepted tasks, the Prefect flow runs that work on them, and the processes around both."""

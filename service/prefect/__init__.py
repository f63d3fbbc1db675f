"""What the service knows of Prefect: its REST API, work pools, deployments, its server."""

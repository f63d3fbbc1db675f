"""Scorers: from ground truth and predictions to a Result. They know nothing of containers or of Prefect."""

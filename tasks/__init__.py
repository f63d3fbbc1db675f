"""Validate, run, score: each a plain function first and its Prefect task second."""

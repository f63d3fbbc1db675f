"""Benchmarks as the facade shows them: which there are, submissions to them, and their leaderboards."""

"""A batch as the API shows it, and its leaderboard."""

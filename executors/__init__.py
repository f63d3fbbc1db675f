"""Run one sealed model: Docker, or a trusted process. They know nothing of scoring."""

"""Models that judge: any OpenAI-compatible endpoint, asked within limits, a budget and a deadline."""

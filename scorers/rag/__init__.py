"""Scores of answers that a retrieval-augmented system gave: free metrics, embeddings, an LLM as judge."""

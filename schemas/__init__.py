"""What crosses a boundary: meta.json, the Result, the envelopes. Pydantic models without behaviour."""

"""The Docker backend: the seal of a container, the engine that runs it, and what is seen of both from here."""

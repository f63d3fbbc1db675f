"""The scorers of an installation: loaded, watched and shown over HTTP."""

"""Workspaces as the API shows and changes them: found below roots, read, uploaded, replaced."""

"""What every layer above needs: configuration, errors, workspaces, provenance. Imports no engine."""

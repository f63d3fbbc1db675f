"""What a batch is made of: which workspaces, who works on them, what becomes of each."""

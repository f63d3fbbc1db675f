"""A router a resource."""

"""Callbacks: what is sent to whom, signed, and kept from going where it must not."""

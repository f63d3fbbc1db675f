"""GPUs of this host: which there are, who has which, and what was used of them."""

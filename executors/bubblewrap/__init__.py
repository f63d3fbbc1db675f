"""The bubblewrap backend: a model sealed by the kernel alone, without a container engine or a daemon."""

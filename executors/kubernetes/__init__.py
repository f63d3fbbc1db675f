"""The Kubernetes backend: one sealed Job a run."""

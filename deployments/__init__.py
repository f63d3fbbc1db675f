"""What an installation is deployed from: work-pool templates, images, compose and Kubernetes files."""

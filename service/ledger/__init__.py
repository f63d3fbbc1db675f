"""Every accepted task, on disk before anybody is told so."""

"""report.html: a Result as one page for a person."""

"""What may become a model's image: names, archives and Dockerfiles of strangers, judged without an engine."""

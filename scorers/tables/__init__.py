"""Files of rows: read strictly, joined by id, exactly."""

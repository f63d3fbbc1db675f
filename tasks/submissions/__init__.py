"""What is particular about scoring a submission to a benchmark."""

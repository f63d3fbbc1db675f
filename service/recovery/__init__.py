"""What infrastructure lost or left: found, judged by one policy, put back or ended."""

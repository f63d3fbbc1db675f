"""What reports and plots say, in English and in Chinese."""

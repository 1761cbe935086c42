"""What went wrong, and what may be done about it."""

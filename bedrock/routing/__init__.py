"""Which model for which task: the router, and what it learns from."""

"""AWS: credentials, clients, chat models."""

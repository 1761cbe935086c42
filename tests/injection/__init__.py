"""Injected texts, a model that obeys all of them, and what moves: nothing that has authority."""

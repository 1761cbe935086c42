"""Evaluation, promotion statistics, and the record of runs."""

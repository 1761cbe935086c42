"""Tests of evaluation, promotion statistics and the record of runs."""

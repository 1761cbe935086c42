"""Tests of recorded sessions, and of the pytest plugin that offers them."""

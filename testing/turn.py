"""The turn to use a cassette: botocore's classes are patched for a whole process, so there is one."""

import threading

CASSETTE_IN_USE = threading.Lock()
"""Held while a cassette is in use; whoever cannot take it has to be refused, not to wait."""

"""Signed digests of the record, and the segments they are about."""

"""Checking everything that a cloud store holds, in every region, and mending what has a sound copy."""

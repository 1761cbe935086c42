"""What holds for all tests."""

from hypothesis import settings

# The first example of a test may import what the product imports when it is first used: no test is about time.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

"""What holds for all tests."""

from hypothesis import settings

# The first example of a test may import what the product imports when it is first used: no test is about time.
settings.register_profile("search", deadline=None)
# Always the same examples: what fails was broken by the change at hand. `make search` looks for others.
settings.register_profile("repeatable", settings.get_profile("search"), derandomize=True)
settings.load_profile("repeatable")

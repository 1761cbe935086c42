"""Small applications that tests run from outside, as a user's own."""

from pathlib import Path

APPS = Path(__file__).parent

"""The stand-in: what answers when no language model does, and how it searches."""

from ..protocol import STAND_IN
from .chat_model import StandIn

__all__ = ["STAND_IN", "StandIn"]

"""The stand-in: what answers when no language model does, and how it searches."""

from .chat_model import STAND_IN, StandIn

__all__ = ["STAND_IN", "StandIn"]

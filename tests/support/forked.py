"""Work in a child of this process, which can be killed."""

import os
import sys
from collections.abc import Callable


def in_child(work: Callable[[], object]) -> int:
    """Fork, let the child work and exit, and return its process id."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException as error:
            print(f"child failed: {error!r}", file=sys.stderr)
            os._exit(1)
        os._exit(0)
    return child

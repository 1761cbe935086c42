"""Finding an application by name, as ASGI servers do: `path/app.py:evolution` or `module:evolution`."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from ..errors import AppNotFound, EvolutionError

DEFAULT_ATTRIBUTE = "evolution"
_HINT = "Name it as path/app.py:evolution or module:evolution."


def app_file(name: str) -> Path | None:
    """Return the file an application's name points to, or None when it names a module."""
    path = Path(name.rpartition(":")[0] or name)
    return path if path.suffix == ".py" or "/" in name else None


def load_app(name: str) -> Any:
    """Import an application and return its `Evolution`.

    The folder of an application given by path is put on `sys.path`, so that it finds its neighbours.

    Args:
        name: `path/app.py:attribute` or `module:attribute`; the attribute is `evolution` when left out.

    Raises:
        AppNotFound: There is no such file, module or attribute, or importing it failed.
    """
    target, _, attribute = name.rpartition(":")
    if not target:
        target, attribute = name, DEFAULT_ATTRIBUTE
    path = app_file(name)
    module = _from_file(path) if path else _from_module(target)
    found = getattr(module, attribute, None)
    if found is None:
        raise AppNotFound(f"{target} has no attribute {attribute!r}.", hint=f"Assign an Evolution to it. {_HINT}")
    # Its class is asked, since looking at the object's own graph would already open its store.
    if not (hasattr(type(found), "graph") and hasattr(type(found), "using")):
        raise AppNotFound(f"{name} is a {type(found).__name__}, not an Evolution.", hint=_HINT)
    return found


def _from_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise AppNotFound(f"there is no file {path}.", hint=_HINT)
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise AppNotFound(f"{path} is no Python file.", hint=_HINT)
    module = importlib.util.module_from_spec(spec)
    # Under its own name, so that processes can unpickle functions that are defined in it.
    sys.modules[path.stem] = module
    try:
        spec.loader.exec_module(module)
    except EvolutionError:
        raise
    except BaseException as error:
        raise _failed(str(path), error) from error
    return module


def _from_module(name: str) -> ModuleType:
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        return importlib.import_module(name)
    except EvolutionError:
        raise
    except BaseException as error:
        raise _failed(name, error) from error


def _failed(name: str, error: BaseException) -> AppNotFound:
    if isinstance(error, KeyboardInterrupt):
        raise error
    return AppNotFound(
        f"importing {name} failed: {type(error).__name__}: {error}.", hint="Mend the application, then try again."
    )

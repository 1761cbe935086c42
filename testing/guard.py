"""Refuses Bedrock calls that no recorded session holds: nothing is sent, and whoever runs the tests hears of it.

A habit of pydantic-ai's (`ALLOW_MODEL_REQUESTS`, https://ai.pydantic.dev/testing/).
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any, TypeAlias

from .errors import ModelCallRefused
from .turn import CASSETTE_IN_USE

_Method: TypeAlias = Callable[..., Any]


class ModelCallGuard:
    """Stands before botocore's `send`, and lets through what is no Bedrock call or goes to this machine.

    A refused call raises `ModelCallRefused` and is noted, since retry or a fallback may swallow that. A call that
    cannot be signed is refused, too: where there are no credentials, it would otherwise pass for a failing model.

    botocore is not imported for it: its modules are patched when the application imports them.
    """

    def __init__(self) -> None:
        self.live = False
        """Whether calls may be made now."""
        self.advice: Callable[[], str] = str
        """What to do about a refused call, for its error; nothing unless set."""
        self._refused: list[str] = []
        self._undo: list[Callable[[], None]] = []
        self._on_import = _OnImport(
            {
                "botocore.httpsession": lambda module: self._replace(module.URLLib3Session, "send", self._sending),
                "botocore.signers": lambda module: self._replace(module.RequestSigner, "sign", self._signing),
            }
        )

    def install(self) -> None:
        """Refuse calls from now on."""
        sys.meta_path.insert(0, self._on_import)
        for name, patch in self._on_import.patches.items():
            if name in sys.modules:
                patch(sys.modules[name])

    def remove(self) -> None:
        """Refuse no more calls, and leave no trace."""
        if self._on_import in sys.meta_path:
            sys.meta_path.remove(self._on_import)
        self.live = True  # somebody may have wrapped a patched method and keep it
        while self._undo:
            self._undo.pop()()

    def taken(self) -> list[str]:
        """Return the calls refused since this was last asked, and forget them."""
        refused, self._refused = self._refused, []
        return refused

    def _replace(self, owner: Any, name: str, guarding: Callable[[_Method], _Method]) -> None:
        original = getattr(owner, name)
        guarded = functools.wraps(original)(guarding(original))

        def undo() -> None:
            if getattr(owner, name) is guarded:
                setattr(owner, name, original)

        setattr(owner, name, guarded)
        self._undo.append(undo)

    def _sending(self, send: _Method) -> _Method:
        def guarded(session: Any, request: Any) -> Any:
            if self._forbids(request.url):
                raise self._refusal(request)
            return send(session, request)

        return guarded

    def _signing(self, sign: _Method) -> _Method:
        def guarded(signer: Any, operation_name: Any, request: Any, *args: Any, **kwargs: Any) -> None:
            try:
                sign(signer, operation_name, request, *args, **kwargs)
            except Exception as error:
                if self._forbids(request.url):
                    raise self._refusal(request) from error
                raise

        return guarded

    def _forbids(self, url: str) -> bool:
        from .calls import is_bedrock, is_this_machine

        # A cassette in use has seen the call before and answers it, or is meant to record it.
        return not (self.live or CASSETTE_IN_USE.locked()) and is_bedrock(url) and not is_this_machine(url)

    def _refusal(self, request: Any) -> ModelCallRefused:
        from .calls import without_account

        call = f"{request.method} {without_account(request.url)}"
        self._refused.append(call)
        return ModelCallRefused(
            f"{call} is a Bedrock call outside a recorded session; nothing was sent. {self.advice()}"
        )


class _OnImport(MetaPathFinder):
    """Patches modules as soon as they have been imported.

    Args:
        patches: What to do with which module.
    """

    def __init__(self, patches: Mapping[str, Callable[[ModuleType], None]]) -> None:
        self.patches = patches

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find a module where Python would, and have it patched once it is loaded."""
        if fullname not in self.patches:
            return None
        spec = PathFinder.find_spec(fullname, path)
        if spec is None or spec.loader is None:
            return None
        load, patch = spec.loader.exec_module, self.patches[fullname]

        def load_and_patch(module: ModuleType) -> None:
            load(module)
            patch(module)

        # On this one loader, so that the module still says truthfully where it came from.
        setattr(spec.loader, "exec_module", load_and_patch)  # noqa: B010  # a method, for mypy
        return spec

"""The referee: tuning, seeds, statistics, workers and the journal of a race.

The package is callable: ``sooner.race(task, "adamw; muon + cosine")`` runs a race and returns its result, while
``import sooner.race.plan`` and all other imports go on as with any package. The function itself lives in
`sooner.racing`, above the reports that its result shows, and is found by its name when it is called.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
import types
from typing import Any

FUNCTION = "sooner.racing:race"


class RacePackage(types.ModuleType):
    """This package, which is a function too. Copies and pickles of it are the package itself."""

    def __call__(self, *args: Any, **options: Any) -> Any:
        """Run a race and return its result: see `sooner.racing.race`."""
        return pkgutil.resolve_name(FUNCTION)(*args, **options)

    @property
    def __signature__(self) -> Any:  # what help, completion and documentation ask for
        import inspect

        return inspect.signature(pkgutil.resolve_name(FUNCTION))

    def __reduce__(self) -> tuple[Any, ...]:
        return importlib.import_module, (__name__,)


sys.modules[__name__].__class__ = RacePackage

"""Objects of the user's own by their import path."""

from __future__ import annotations

import difflib
import importlib
import os
import sys
from typing import Any

from rollouts.errors import ConfigError


def import_object(path: str) -> Any:
    """What `package.module:attribute` names, the working directory being on the path. Raises ConfigError."""
    module_name, _, attribute = path.partition(":")
    if not module_name or not attribute or "/" in module_name or module_name.endswith(".py"):
        raise ConfigError(
            f"{path!r} must be 'package.module:function', for example 'my_metrics:score' for my_metrics.py"
        )
    here = os.getcwd()
    if here not in sys.path and "" not in sys.path:
        sys.path.insert(0, here)
    importlib.invalidate_caches()
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as missing:
        if missing.name and (module_name == missing.name or module_name.startswith(missing.name + ".")):
            raise ConfigError(
                f"{path!r}: there is no module {missing.name!r} in {here} or among the installed packages"
            ) from None
        raise ConfigError(f"{path!r}: the module needs {missing.name!r}, which is not installed") from missing
    except (ImportError, SyntaxError, ValueError) as problem:
        raise ConfigError(f"{path!r}: the module can't be imported: {problem}") from problem
    except SystemExit as problem:
        raise ConfigError(f"{path!r}: the module tries to end the process on import: {problem!r}") from problem
    for part in attribute.split("."):
        if not hasattr(found, part):
            names = [name for name in dir(found) if not name.startswith("_")]
            close = difflib.get_close_matches(part.lower().replace("-", "_"), names, n=1)
            near = f", did you mean {close[0]!r}?" if close else ""
            raise ConfigError(f"{path!r}: the module {module_name!r} has no {attribute!r}{near}")
        found = getattr(found, part)
    return found

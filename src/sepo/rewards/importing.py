"""The user's own code by its name: `package.module:name` and `path/file.py:name`."""

from __future__ import annotations

import difflib
import sys
from importlib import import_module
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from itertools import accumulate
from pathlib import Path
from types import ModuleType
from typing import Any


def named(name: str) -> Any:
    """What `package.module:name` or `path/file.py:name` names; modules are looked for in the working directory too.

    Raises:
        ValueError: there is no such module, file or name in it, or the module raises when it is imported.
    """
    home, colon, attribute = name.rpartition(":")
    if not colon or not home or not attribute.isidentifier():
        raise ValueError(f"{name!r} names nothing: write package.module:name, or path/file.py:name.")
    module = _file(Path(home), name) if home.endswith(".py") else _module(home, name)
    if attribute not in vars(module):
        near = difflib.get_close_matches(attribute, vars(module), n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"{name!r}: there is no {attribute!r} in {home}.{hint}")
    return vars(module)[attribute]


def source_of(name: str) -> Path | None:
    """The file of the module in `package.module:name` or `path/file.py:name`, found without importing anything.

    None: there is none, as of a module that Python has built in, or that is not there.
    """
    home = name.rpartition(":")[0]
    if home.endswith(".py"):
        found = Path(home).expanduser()
    else:
        spec = _spec(home)
        found = Path(spec.origin) if spec is not None and spec.has_location and spec.origin else Path()
    return found if found.is_file() else None


def _spec(home: str) -> ModuleSpec | None:
    """Of a module, searched for in its packages one after the other, where `find_spec` would import them."""
    _look_in(Path.cwd())
    package, *inside = accumulate(home.split("."), "{}.{}".format)
    try:
        found = find_spec(package)
    except ValueError:  # a module without a spec, such as __main__
        return None
    for module in inside:
        if found is None or found.submodule_search_locations is None:
            return None
        found = PathFinder.find_spec(module, found.submodule_search_locations)
    return found


def _module(home: str, name: str) -> ModuleType:
    _look_in(Path.cwd())
    try:
        return import_module(home)
    except ModuleNotFoundError as error:
        if error.name is not None and (home == error.name or home.startswith(f"{error.name}.")):
            raise ValueError(f"{name!r}: there is no module {error.name!r}, neither here nor installed.") from None
        raise ValueError(f"{name!r}: {home} imports {error.name!r}, which is not installed.") from error
    except Exception as error:
        raise ValueError(f"{name!r}: importing {home} raised {type(error).__name__}: {error}") from error


def _file(path: Path, name: str) -> ModuleType:
    path = path.expanduser().resolve()
    if not path.is_file():
        raise ValueError(f"{name!r}: there is no file {path}.")
    _look_in(path.parent)
    found = spec_from_file_location(path.stem, path)
    if found is None or found.loader is None:
        raise ValueError(f"{name!r}: {path} cannot be imported.")
    module = module_from_spec(found)
    before = sys.modules.get(path.stem)
    sys.modules[path.stem] = module
    try:
        found.loader.exec_module(module)
    except Exception as error:
        raise ValueError(f"{name!r}: importing {path} raised {type(error).__name__}: {error}") from error
    finally:
        if before is not None:
            sys.modules[path.stem] = before
    return module


def _look_in(folder: Path) -> None:
    """Lets modules of the folder be imported, as they are for a script that lies there."""
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))

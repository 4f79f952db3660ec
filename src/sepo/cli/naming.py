"""Names of the user's own code: `package.module:name` and `path/file.py:name`, for rewards and tasks."""

from __future__ import annotations

import argparse
import difflib
import inspect
import sys
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any, get_type_hints

from jsonargparse import ArgumentParser

from sepo.cli.grammar import in_words
from sepo.tasks import TASKS, Task


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


def reward_named(name: str) -> Any:
    """A reward by its name; a folder or hub id of a reward model stays a name, which the trainer loads.

    Raises:
        ValueError: the name leads to nothing that can be called.
    """
    if ":" not in name:
        if name.endswith(".py") or Path(name).is_file():
            raise ValueError(f"reward {name!r}: say which function of the file: {name}:my_reward.")
        return name
    found = named(name)
    if not callable(found):
        raise ValueError(
            f"reward {name!r} is of type {type(found).__name__}; name a function, or an object that is called."
        )
    return found() if isinstance(found, type) else found


def task_named(asked: str | Mapping[str, Any]) -> Task:
    """A task by its name in TASKS or that of its class; a mapping adds its options: {class_path, init_args}.

    Raises:
        ValueError: there is no such task, it is no `Task`, or an option does not fit.
    """
    name, options = (asked, {}) if isinstance(asked, str) else _class_and_options(asked)
    if name in TASKS:
        kind: Any = TASKS[name]
    elif ":" in name or "." in name:
        kind = named(name if ":" in name else ":".join(name.rsplit(".", 1)))
    else:
        near = difflib.get_close_matches(name, TASKS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(TASKS)}."
        raise ValueError(f"There is no task {name!r}; {hint} One of your own is named package.module:Class.")
    if isinstance(kind, Task):
        return kind
    if not (isinstance(kind, type) and issubclass(kind, Task)):
        raise ValueError(f"task {name!r} is no subclass of sepo.tasks.Task; derive your class from it.")
    return _instance(kind, name, options)


def _class_and_options(asked: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    unknown = asked.keys() - {"class_path", "init_args"}
    if unknown or not isinstance(asked.get("class_path"), str):
        raise ValueError(f"task: {dict(asked)} must have class_path, a name, and may have init_args, its options.")
    return asked["class_path"], asked.get("init_args") or {}


def _instance(kind: type[Task], name: str, options: Mapping[str, Any]) -> Task:
    known = [each.name for each in fields(kind)] if is_dataclass(kind) else list(inspect.signature(kind).parameters)
    for option in options:
        if option not in known:
            near = difflib.get_close_matches(option, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(known) or 'none'}."
            raise ValueError(f"task {name!r} has no option {option!r}; {hint}")
    hints = get_type_hints(kind if is_dataclass(kind) else kind.__init__)
    values = {}
    for option, value in options.items():
        parser = ArgumentParser(exit_on_error=False)
        parser.add_argument(f"--{option}", type=hints.get(option, Any))
        try:
            values[option] = parser.parse_object({option: value}, defaults=False)[option]
        except (argparse.ArgumentError, TypeError):
            expected = in_words(hints.get(option, Any))
            raise ValueError(f"task {name!r}: {option}: {value!r}: expected {expected}.") from None
    return kind(**values)


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

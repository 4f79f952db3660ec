"""Names of the user's own code: `package.module:name` and `path/file.py:name`, for rewards and tasks."""

from __future__ import annotations

import argparse
import difflib
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

from jsonargparse import ArgumentParser

from sepo.cli.grammar import in_words
from sepo.rewards import ArrayReward, ClassifierProbability, Rewards, Spelled
from sepo.rewards.importing import named
from sepo.tasks import TASKS, Task

__all__ = ["named", "reward_named", "rewards_named", "task_named"]


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


def rewards_named(asked: str | Sequence[str] | None, task: Task | None) -> list[Any]:
    """The rewards of a command, by their names. Of a task without tokenizer that knows letters they read letters; the
    ready ones that read arrays read arrays.

    Raises:
        ValueError: a name leads to nothing that can be called.
    """
    found = [reward_named(name) for name in ([asked] if isinstance(asked, str) else asked or [])]
    if task is None or task.tokenizer is not None or type(task).spelled is Task.spelled:
        return found
    return [_spelled(reward, task) for reward in found]


def _spelled(reward: Any, task: Task) -> Any:
    if isinstance(reward, (ArrayReward, ClassifierProbability)):
        return reward
    [ready] = Rewards.of(reward).functions
    return Spelled(ready, task.spelled)


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

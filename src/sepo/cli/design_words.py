"""Options of a stage of `sepo design`, as the command of that stage is called with them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import yaml

from sepo.runs.plain import plain


def in_words(options: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Options as a command line has them."""
    words = []
    for name, value in options.items():
        if isinstance(value, Mapping) and value:
            words += in_words(value, f"{prefix}{name}.")
        elif prefix or value is None or isinstance(value, (Mapping, list)):
            words += [f"--{prefix}{name}={_in_yaml(value)}"]  # None: another default than none may stand behind it
        else:
            words += [f"--{name}={value}"]
    return words


def _in_yaml(value: Any) -> str:
    """As `yaml.safe_load` reads it again: 1.0e-05, since 1e-05 would be text, and text in quotes that looks like more.

    On one line, so that nothing is folded.
    """
    spelled = yaml.safe_dump(plain(value), default_flow_style=True, width=math.inf, allow_unicode=True)
    return spelled.removesuffix("\n").removesuffix("\n...")

"""Build hook: a line `{{ modules: evaluation }}` on an API page becomes one `:::` directive per module in it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).parents[2] / "src"
LINE = re.compile(r"^\{\{ modules: ([\w. ]+) \}\}$", re.MULTILINE)


def on_page_markdown(markdown: str, **_: Any) -> str:
    return LINE.sub(
        lambda found: "\n".join(f"::: {name}" for part in found[1].split() for name in modules(part)), markdown
    )


def modules(part: str) -> list[str]:
    """Dotted names of `part` (a module or package of sepo), the packages' own names left out."""
    root = SOURCE / "sepo" / part.replace(".", "/")
    files = [root.with_suffix(".py")] if root.with_suffix(".py").exists() else sorted(root.rglob("*.py"))
    packages = {folder for folder in root.rglob("*") if folder.is_dir()} | {root}
    loose = {folder for folder in packages if folder.is_dir() and not (folder / "__init__.py").exists()}
    public = [file for file in files if not file.name.startswith("_") and loose.isdisjoint(file.parents)]
    return [".".join(file.relative_to(SOURCE).with_suffix("").parts) for file in public]

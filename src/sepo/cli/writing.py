"""Writing samples: as lines, JSON, an array of tokens, or a picture."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from sepo.cli.errors import UsageError
from sepo.cli.samples import Samples
from sepo.cli.story import drawn
from sepo.runs import Pixels, contact_sheet_png
from sepo.runs.completions import brief
from sepo.runs.plain import plain, replacing, to_json
from sepo.tasks import Task


def require_writable(path: Path, task: Task | None) -> None:
    """
    Raises:
        UsageError: no writer has this ending, or there is no task to draw the picture.
    """
    if path.suffix not in WRITERS:
        raise UsageError(f"--output {path}: choose one of the endings {', '.join(WRITERS)}.")
    if path.suffix == ".png" and task is None:
        raise UsageError(f"--output {path}: a picture needs a task that draws, such as --task digits.")


def write_samples(path: Path, samples: Samples, task: Task | None) -> None:
    """Writes the file whole or not at all; its ending says how.

    Raises:
        ValueError: the samples cannot be written so.
    """
    content = WRITERS[path.suffix](samples, task)
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def as_lines(samples: Samples) -> str:
    """A line for each sample: text with its line breaks as \\n, or tokens."""
    return "".join(f"{_line(completion)}\n" for completion in samples.completions)


def _line(completion: Any) -> str:
    if isinstance(completion, np.ndarray):
        return " ".join(map(str, completion.tolist()))
    return brief(completion).replace("\\", "\\\\").replace("\n", "\\n")


def _txt(samples: Samples, task: Task | None) -> bytes:
    return as_lines(samples).encode()


def _jsonl(samples: Samples, task: Task | None) -> bytes:
    rows = zip(samples.prompts, samples.completions, samples.ids, strict=True)
    entries = [{"prompt": prompt, "completion": text, "completion_ids": ids} for prompt, text, ids in rows]
    return "".join(f"{to_json(plain(entry, 'sample'))}\n" for entry in entries).encode()


def _npy(samples: Samples, task: Task | None) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, samples.tokens, allow_pickle=False)
    return buffer.getvalue()


def _png(samples: Samples, task: Task | None) -> bytes:
    pictures = None if task is None else drawn(task, samples, len(samples))
    if not isinstance(pictures, Pixels):
        raise ValueError("This task draws no pictures of pixels: write .jsonl, .npy or .txt.")
    return contact_sheet_png(pictures)


WRITERS: dict[str, Callable[[Samples, Task | None], bytes]] = {
    ".jsonl": _jsonl,
    ".npy": _npy,
    ".txt": _txt,
    ".png": _png,
}

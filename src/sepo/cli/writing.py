"""Writing samples: as lines, JSON, FASTA, an array of tokens, or a picture."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from sepo.cli.errors import UsageError
from sepo.cli.samples import Samples, spelled
from sepo.cli.story import drawn
from sepo.oracles.measurements import as_fasta
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
    if path.suffix == ".fasta" and (task is None or type(task).spelled is Task.spelled):
        raise UsageError(f"--output {path}: FASTA needs a task that knows the letters, such as --task measured.")


def write_samples(path: Path, samples: Samples, task: Task | None) -> None:
    """Writes the file whole or not at all; its ending says how.

    Raises:
        ValueError: the samples cannot be written so.
    """
    content = WRITERS[path.suffix](samples, task)
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def as_lines(samples: Samples, task: Task | None) -> str:
    """A line for each sample: text with its line breaks as \\n, what the task writes, or tokens."""
    return "".join(f"{_line(completion)}\n" for completion in spelled(samples, task))


def _line(completion: Any) -> str:
    if isinstance(completion, np.ndarray):
        return " ".join(map(str, completion.tolist()))
    return brief(completion).replace("\\", "\\\\").replace("\n", "\\n")


def _txt(samples: Samples, task: Task | None) -> bytes:
    return as_lines(samples, task).encode()


def _jsonl(samples: Samples, task: Task | None) -> bytes:
    rows = zip(samples.prompts, spelled(samples, task), samples.ids, strict=True)
    entries = [{"prompt": prompt, "completion": text, "completion_ids": ids} for prompt, text, ids in rows]
    return "".join(f"{to_json(plain(entry, 'sample'))}\n" for entry in entries).encode()


def _fasta(samples: Samples, task: Task | None) -> bytes:
    sequences = spelled(samples, task)
    if not all(isinstance(each, str) for each in sequences):
        raise ValueError("This task knows no letters: write .jsonl, .npy or .txt.")
    return as_fasta([f"sample_{number}" for number in range(1, len(samples) + 1)], sequences).encode()


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
    ".fasta": _fasta,
    ".png": _png,
}

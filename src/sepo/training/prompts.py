"""From rows of a dataset to canvases, and from filled canvases to what a reward reads.

Three kinds of rows, one class each: nothing given (`Unconditional`), tokens with fixed sites (`Given`: infilling,
puzzles, scaffolds) and text (`Text`: plain or chat-format prompts with a completion behind them, or a text with mask
tokens to fill).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from sepo.diffusion.canvas import Canvas
from sepo.diffusion.rollout import Rollout
from sepo.training.rows import Row, Rows, number_of
from sepo.training.tokens import chat_ids, decoded, end_id, padding_id, text_ids


@runtime_checkable
class Prompts(Protocol):
    """How rows become canvases and completions. `conditional`: whether the rows of a group share a prompt."""

    @property
    def conditional(self) -> bool: ...

    def canvas(self, rows: Sequence[Row], width: int = 0) -> Canvas:
        """width: sites at least, where rows of several lengths are padded; other processes may hold longer ones."""
        ...

    def prompts(self, rows: Sequence[Row]) -> list[Any]: ...

    def completions(self, rollout: Rollout) -> list[Any]:
        """What the reward sees as `completions`."""
        ...


def completion_ids(rollout: Rollout) -> list[list[int]]:
    """The tokens of the free sites of each row, in order."""
    return [x0[free].tolist() for x0, free in zip(rollout.x0.cpu(), rollout.canvas.free.cpu(), strict=True)]


@dataclass(frozen=True)
class Unconditional:
    """Canvases of `length` free sites; prompts are None; completions are decoded, or arrays without a tokenizer.

    frame: tokens that stand before and behind the free sites.
    """

    length: int
    tokenizer: PreTrainedTokenizerBase | None = None
    frame: tuple[tuple[int, ...], tuple[int, ...]] = ((), ())
    conditional = False

    def canvas(self, rows: Sequence[Row], width: int = 0) -> Canvas:
        before, behind = self.frame
        row = torch.tensor([*before, *[0] * self.length, *behind], dtype=torch.long)
        site = torch.arange(len(row))
        free = (site >= len(before)) & (site < len(before) + self.length)
        return Canvas(row.repeat(len(rows), 1), free.repeat(len(rows), 1))

    def prompts(self, rows: Sequence[Row]) -> list[Any]:
        return [None] * len(rows)

    def completions(self, rollout: Rollout) -> list[Any]:
        return _whole_rows(rollout, self.tokenizer)


@dataclass(frozen=True)
class Given:
    """Rows {"tokens": [...], "free": [...]}: `free` marks the sites to fill, the other tokens stand. All rows of one
    length.

    lengths: those that the model takes, None if it takes any. The prompt is the array of tokens with -1 at the free
    sites, the completion the whole row.
    """

    tokenizer: PreTrainedTokenizerBase | None = None
    lengths: range | None = None
    conditional = True

    def canvas(self, rows: Sequence[Row], width: int = 0) -> Canvas:
        lengths = {len(row["tokens"]) for row in rows} | {len(row["free"]) for row in rows}
        if len(lengths) != 1:
            raise ValueError(
                f"'tokens' and 'free' must all have one length, but found {sorted(lengths)}; pad them with sites not "
                "free."
            )
        _require_fit(lengths.pop(), self.lengths, "rows of 'tokens'")
        tokens = torch.tensor(np.asarray([row["tokens"] for row in rows]), dtype=torch.long)
        return Canvas(tokens, torch.tensor(np.asarray([row["free"] for row in rows]), dtype=torch.bool))

    def prompts(self, rows: Sequence[Row]) -> list[Any]:
        return [np.where(np.asarray(row["free"], dtype=bool), -1, np.asarray(row["tokens"])) for row in rows]

    def completions(self, rollout: Rollout) -> list[Any]:
        return _whole_rows(rollout, self.tokenizer)


@dataclass(frozen=True)
class Text:
    """Rows {"prompt": str or list of messages}: `completion_length` free sites behind each prompt; padding behind them.

    A network that sees both ways needs no padding on the left, and without it every token has the position that it has
    alone. max_length: sites the model can hold, None if unlimited. Completions end at the first end-of-sequence token;
    those of chat prompts are a list with one assistant message.
    """

    tokenizer: PreTrainedTokenizerBase
    completion_length: int
    max_length: int | None = None
    conditional = True

    def canvas(self, rows: Sequence[Row], width: int = 0) -> Canvas:
        encoded = [self._encode(row["prompt"]) for row in rows]
        longest = max(range(len(rows)), key=lambda row: len(encoded[row]))
        if self.max_length is not None and len(encoded[longest]) + self.completion_length > self.max_length:
            raise ValueError(
                f"The prompt {str(rows[longest]['prompt'])[:60]!r} has {len(encoded[longest])} tokens; with "
                f"max_completion_length={self.completion_length} that is more than the {self.max_length} sites of the "
                "model. Shorten the prompt, leave it out, or lower max_completion_length."
            )
        filler = [padding_id(self.tokenizer)] * self.completion_length
        canvas = _padded([ids + filler for ids in encoded], padding_id(self.tokenizer), width)
        site, given = torch.arange(canvas.tokens.shape[1]), torch.tensor([[len(ids)] for ids in encoded])
        return replace(canvas, free=(site >= given) & (site < given + self.completion_length))

    def prompts(self, rows: Sequence[Row]) -> list[Any]:
        return [row["prompt"] for row in rows]

    def completions(self, rollout: Rollout) -> list[Any]:
        end = end_id(self.tokenizer)
        cut = [ids[: ids.index(end)] if end in ids else ids for ids in completion_ids(rollout)]
        return [decoded(self.tokenizer, ids) for ids in cut]

    def _encode(self, prompt: Any) -> list[int]:
        return text_ids(self.tokenizer, prompt) if isinstance(prompt, str) else chat_ids(self.tokenizer, prompt)


@dataclass(frozen=True)
class Infill:
    """Rows {"prompt": text with mask tokens}: the masks are the free sites, the completion is the whole text.

    lengths: those that the model takes, None if it takes any.
    """

    tokenizer: PreTrainedTokenizerBase
    lengths: range | None = None
    conditional = True

    def canvas(self, rows: Sequence[Row], width: int = 0) -> Canvas:
        encoded = [text_ids(self.tokenizer, row["prompt"]) for row in rows]
        longest = max(range(len(rows)), key=lambda row: len(encoded[row]))
        _require_fit(len(encoded[longest]), self.lengths, f"the prompt {str(rows[longest]['prompt'])[:60]!r}")
        canvas = _padded(encoded, padding_id(self.tokenizer), width)
        return replace(canvas, free=(canvas.tokens == self.tokenizer.mask_token_id) & canvas.free)

    def prompts(self, rows: Sequence[Row]) -> list[Any]:
        return [row["prompt"] for row in rows]

    def completions(self, rollout: Rollout) -> list[Any]:
        return _whole_rows(rollout, self.tokenizer)


def prompts_for(
    dataset: Rows | None,
    tokenizer: PreTrainedTokenizerBase | None,
    completion_length: int,
    max_length: int | None,
    lengths: range | None = None,
    frame: tuple[tuple[int, ...], tuple[int, ...]] = ((), ()),
) -> Prompts:
    """The kind of rows that a dataset holds.

    max_length: sites of the canvas, None if unlimited; lengths: those that the network takes at all, None if any;
    frame: of a canvas without prompts.

    Raises:
        ValueError: an empty dataset, rows without "prompt" or "tokens" and "free", text without a tokenizer, no length.
    """
    if dataset is None:
        if max_length is None:
            raise ValueError(
                "Without a train_dataset the canvas needs a length: give the model one (dataclasses.replace(policy, "
                "length=100), or 'length' in its sepo.json)."
            )
        return Unconditional(max_length, tokenizer, frame)
    if number_of(dataset) == 0:
        raise ValueError("The dataset is empty: give at least one prompt, or None to draw without prompts.")
    first = dataset[0]
    if "tokens" in first and "free" in first:
        return Given(tokenizer, lengths)
    if "prompt" not in first:
        raise ValueError(
            f"The rows of the dataset have the columns {sorted(first)}; they need 'prompt' (text or messages) or "
            "'tokens' and 'free'."
        )
    if tokenizer is None:
        raise ValueError(
            "The prompts are text but there is no tokenizer: pass processing_class=AutoTokenizer.from_pretrained(...)."
        )
    mask: Any = tokenizer.mask_token
    if isinstance(first["prompt"], str) and mask and mask in first["prompt"]:
        return Infill(tokenizer, lengths)
    return Text(tokenizer, completion_length, max_length if lengths is None else lengths[-1])


def as_messages(prompts: Sequence[Any], completions: list[Any]) -> list[Any]:
    """Completions of chat-format prompts as TRL hands them to rewards: a list with one assistant message each."""
    chat = [isinstance(prompt, list) for prompt in prompts]
    return [
        [{"role": "assistant", "content": text}] if is_chat and isinstance(text, str) else text
        for is_chat, text in zip(chat, completions, strict=True)
    ]


def _padded(encoded: Sequence[list[int]], padding: int, width: int) -> Canvas:
    """Rows of `width` sites or more, padded behind; free wherever there is no padding."""
    lengths = [len(ids) for ids in encoded]
    tokens = torch.full((len(encoded), max(width, *lengths)), padding)
    for row, ids in enumerate(encoded):
        tokens[row, : len(ids)] = torch.tensor(ids, dtype=torch.long)
    real = torch.arange(tokens.shape[1]) < torch.tensor(lengths).unsqueeze(1)
    return Canvas(tokens, real, None if bool(real.all()) else real)


def _require_fit(length: int, lengths: range | None, what: str) -> None:
    if lengths is not None and length not in lengths:
        takes = f"{lengths[0]}" if len(lengths) == 1 else f"{lengths[0]} to {lengths[-1]}"
        raise ValueError(
            f"The length of {what} is {length} sites, but the model takes {takes}: shorten or pad what is longer or "
            "shorter, or choose a model of that length."
        )


def _whole_rows(rollout: Rollout, tokenizer: PreTrainedTokenizerBase | None) -> list[Any]:
    x0 = rollout.x0.cpu()
    if tokenizer is None:
        return list(x0.numpy())
    return [decoded(tokenizer, row) for row in x0]

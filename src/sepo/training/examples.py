"""From rows of a dataset to batches for the denoising loss: whole sequences, and which of their sites are learned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedTokenizerBase

from sepo.diffusion.canvas import Canvas
from sepo.diffusion.process import Absorbing, Process
from sepo.training.rows import Row
from sepo.training.tokens import chat_ids, end_id, padding_id, text_ids


def rows_of(canvas: Canvas) -> list[Row]:
    """The rows of a canvas of data: {"tokens", "free"}."""
    return [{"tokens": tokens, "free": free} for tokens, free in zip(canvas.tokens, canvas.free, strict=True)]


def require_known(canvas: Canvas, process: Process, lengths: range) -> None:
    """
    Raises:
        ValueError: the data have tokens or a length that the model does not know, or the mask where it is learned.
    """
    tokens, length = canvas.tokens, canvas.tokens.shape[1]
    if length not in lengths:
        raise ValueError(
            f"The sequences have {length} tokens, but the model takes {lengths[0]} to {lengths[-1]}: cut or pad them, "
            "or choose a model of that length."
        )
    if int(tokens.min()) < 0 or int(tokens.max()) >= process.size:
        raise ValueError(
            f"The data hold tokens {int(tokens.min())} to {int(tokens.max())}, but the model has ids 0 to "
            f"{process.size - 1}; check that data and tokenizer belong to the model."
        )
    if isinstance(process, Absorbing) and bool((canvas.free & (tokens == process.mask)).any()):
        raise ValueError(
            f"The data hold the mask id {process.mask} at a site that is learned: a mask stands for what is not known "
            "and cannot be learned. Mark such sites as not free, or drop the sequences."
        )


@dataclass(frozen=True)
class Examples:
    """Rows {"tokens"} (pretraining; "free" marks the sites that are learned, all by default), {"text"}, or {"prompt",
    "completion"} (SFT: the completion is learned, the prompt is given). Text is cut to `length` tokens and padded on
    the right.

    Called with rows, it makes a canvas whose tokens are the data.
    """

    tokenizer: PreTrainedTokenizerBase | None = None
    length: int | None = None

    def __call__(self, rows: Sequence[Row]) -> Canvas:
        """
        Raises:
            ValueError: rows of several lengths, without known columns, or text without a tokenizer.
        """
        first = rows[0]
        if "tokens" in first:
            return self._tokens(rows)
        if "text" in first:
            return self._padded([(0, text_ids(self._need_tokenizer(), row["text"])) for row in rows])
        if "prompt" in first and "completion" in first:
            return self._padded([self._pair(row) for row in rows])
        raise ValueError(
            f"The rows of the dataset have the columns {sorted(first)}; they need 'tokens', 'text', or 'prompt' and "
            "'completion'."
        )

    def _tokens(self, rows: Sequence[Row]) -> Canvas:
        lengths = sorted({len(row["tokens"]) for row in rows})
        if len(lengths) > 1:
            raise ValueError(
                f"'tokens' must all have one length, but found {lengths}; pad them and mark the padding not free."
            )
        tokens = torch.stack([torch.as_tensor(row["tokens"]) for row in rows]).long()
        if "free" not in rows[0]:
            return Canvas(tokens, torch.ones_like(tokens, dtype=torch.bool))
        free = torch.stack([torch.as_tensor(row["free"]) for row in rows]).bool()
        if free.shape != tokens.shape:
            raise ValueError(
                f"'free' has the shape {list(free.shape)} and 'tokens' {list(tokens.shape)}: mark every site, True "
                "where it is learned."
            )
        return Canvas(tokens, free)

    def _pair(self, row: Row) -> tuple[int, list[int]]:
        """How many tokens are the prompt's, and all of them."""
        tokenizer, prompt, answer = self._need_tokenizer(), row["prompt"], row["completion"]
        answer = answer if isinstance(answer, str) else answer[0]["content"]
        given = text_ids(tokenizer, prompt, special=False) if isinstance(prompt, str) else chat_ids(tokenizer, prompt)
        if self.length is not None and len(given) >= self.length:
            raise ValueError(
                f"The prompt {str(prompt)[:60]!r} has {len(given)} tokens, which leaves no room for its completion in "
                f"the {self.length} sites of the model. Shorten it or leave it out."
            )
        end = end_id(tokenizer)
        return len(given), given + text_ids(tokenizer, answer, special=False) + ([] if end is None else [end])

    def _padded(self, encoded: list[tuple[int, list[int]]]) -> Canvas:
        cut = [(given, ids[: self.length]) for given, ids in encoded]
        longest = max(len(ids) for _, ids in cut)
        tokens = torch.full((len(cut), longest), padding_id(self._need_tokenizer()))
        free = torch.zeros(tokens.shape, dtype=torch.bool)
        attend = torch.zeros_like(free)
        for row, (given, ids) in enumerate(cut):
            tokens[row, : len(ids)] = torch.tensor(ids, dtype=torch.long)
            attend[row, : len(ids)] = True
            free[row, given : len(ids)] = True
        return Canvas(tokens, free, None if bool(attend.all()) else attend)

    def _need_tokenizer(self) -> PreTrainedTokenizerBase:
        if self.tokenizer is None:
            raise ValueError(
                "The dataset is text but there is no tokenizer: pass "
                "processing_class=AutoTokenizer.from_pretrained(...)."
            )
        return self.tokenizer

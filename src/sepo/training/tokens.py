"""What is asked of a tokenizer, each with the type it really has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase


def text_ids(tokenizer: PreTrainedTokenizerBase, text: str, special: bool = True) -> list[int]:
    ids: Any = tokenizer(text, add_special_tokens=special)["input_ids"]
    return list(ids)


def chat_ids(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Any]) -> list[int]:
    """The messages in the tokenizer's chat template, with the opening of the answer."""
    encoded: Any = tokenizer.apply_chat_template(
        list(messages), add_generation_prompt=True, tokenize=True, return_dict=True
    )
    return list(encoded["input_ids"])


def end_id(tokenizer: PreTrainedTokenizerBase) -> int | None:
    end: Any = tokenizer.eos_token_id
    return end


def padding_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """The padding id, else the end-of-sequence id, else 0: padded sites are not attended to."""
    padding: Any = tokenizer.pad_token_id
    if padding is None:
        padding = end_id(tokenizer)
    return 0 if padding is None else padding


def decoded(tokenizer: PreTrainedTokenizerBase, ids: Any) -> str:
    """The text without special tokens; residues of a protein with no spaces between them."""
    text: Any = tokenizer.decode(ids, skip_special_tokens=True)
    return text.replace(" ", "") if type(tokenizer).__name__.startswith("Esm") else text

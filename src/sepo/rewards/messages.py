"""Chat-format prompts and completions: lists of messages {"role": ..., "content": ...}."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def is_conversational(value: Any) -> bool:
    """Whether a prompt or completion is a list of messages."""
    return (
        isinstance(value, (list, tuple))
        and len(value) > 0
        and all(isinstance(message, Mapping) and "role" in message and "content" in message for message in value)
    )


def text_of(value: Any) -> str:
    """The text of a plain or chat-format completion: the contents of its messages, one after the other.

    Raises:
        ValueError: the value is neither, such as the array of a task without tokenizer.
    """
    if isinstance(value, str):
        return value
    if is_conversational(value):
        return "".join(_content(message["content"]) for message in value)
    raise ValueError(
        f"{shortened(value)} ({type(value).__name__}) is neither text nor a list of messages with 'role' and "
        "'content', and this reward reads text. Give the model a tokenizer, or use a reward for arrays."
    )


def shortened(value: Any, width: int = 60) -> str:
    """`repr` on one line of at most `width` characters."""
    line = " ".join(repr(value).split())
    return line if len(line) <= width else line[: width - 3] + "..."


def _content(content: Any) -> str:
    """A message's text; of contents in parts ({"type": "text", "text": ...}), the text parts."""
    if content is None or isinstance(content, str):
        return content or ""
    if isinstance(content, Sequence):
        return "".join(part["text"] for part in content if isinstance(part, Mapping) and part.get("type") == "text")
    raise ValueError(f"The content of a message is {shortened(content)}: it must be text, a list of parts, or None.")

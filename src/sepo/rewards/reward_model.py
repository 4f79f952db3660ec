"""A sequence-classification model as a reward: it reads prompt and completion with its own tokenizer."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import torch

from sepo.rewards.messages import is_conversational, shortened, text_of
from sepo.rewards.named import NamedReward

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

OPTIONS = ("label", "with_prompt", "batch_size", "max_length", "name")
"""What `RewardModel.load` keeps for itself; the rest is for `from_pretrained`."""


@dataclass(frozen=True, eq=False)
class RewardModel(NamedReward):
    """`RewardModel.load(name)` and `RewardModel.of(model, tokenizer)` make one.

    The text judged is the prompt followed by the completion, of messages their chat template, of prompts that are no
    text (None, arrays) the completion alone. A text of no token gets None. The value is the model's single logit, or
    the probability of `label`.

    Args:
        model: in evaluation mode, wherever you put it; its `pad_token_id` becomes the tokenizer's.
        tokenizer: with a padding token.
        label: for a classifier with several labels, the index of the one whose probability is the reward.
        with_prompt: False judges completions alone, as for infilling, where they are the whole text.
        batch_size: texts at a time.
        max_length: tokens at which texts are cut; None: a text longer than the model can read is an error.
        name: under which it is logged; the last part of the model's id.
    """

    model: Any
    tokenizer: Any
    label: int | None = None
    with_prompt: bool = True
    batch_size: int = 64
    max_length: int | None = None
    name: str = ""  # type: ignore[assignment]

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"batch_size={self.batch_size}: a reward model reads at least 1 text at a time.")
        labels = self.model.config.num_labels
        if self.label is None and labels != 1:
            raise ValueError(
                f"The reward model {self.name!r} has {labels} labels, "
                f"{', '.join(self.model.config.id2label.values())}: a reward is one number. Choose one: "
                "RewardModel.load(..., label=...)."
            )
        if self.label is not None and not 0 <= self.label < labels:
            raise ValueError(f"label={self.label}: the reward model {self.name!r} has the labels 0 to {labels - 1}.")

    @staticmethod
    def load(
        folder_or_id: str, tokenizer: PreTrainedTokenizerBase | None = None, **model_init_kwargs: Any
    ) -> RewardModel:
        """A local folder or hub id.

        Raises:
            ValueError: there is no such model, its head is not in the checkpoint, or it has no (fitting) tokenizer.
        """
        from transformers import AutoModelForSequenceClassification

        options = {name: model_init_kwargs.pop(name) for name in OPTIONS if name in model_init_kwargs}
        try:
            model, report = AutoModelForSequenceClassification.from_pretrained(
                folder_or_id, output_loading_info=True, **model_init_kwargs
            )
        except Exception as error:
            raise ValueError(
                f"The reward model {folder_or_id!r} cannot be loaded: {error} A string among the rewards is the "
                "folder or hub id of a sequence-classification model."
            ) from error
        if report["missing_keys"]:
            raise ValueError(
                f"The reward model {folder_or_id!r} lacks {', '.join(sorted(report['missing_keys']))}, so that its "
                "rewards would be random: give a checkpoint that was trained for sequence classification."
            )
        return RewardModel.of(model, tokenizer, **options)

    @staticmethod
    def of(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase | None = None, **options: Any) -> RewardModel:
        """A loaded model; without a tokenizer, that of the folder or id it was loaded from.

        Raises:
            ValueError: no tokenizer, none that fits, no padding token; an unknown label.
        """
        source = str(model.config.name_or_path)
        name = options.pop("name", "") or PurePath(source).name or type(model).__name__
        reader: Any = copy.deepcopy(tokenizer) if tokenizer is not None else _tokenizer_of(source, name)
        if reader.pad_token_id is None:
            if reader.eos_token_id is None:
                raise ValueError(
                    f"The tokenizer of the reward model {name!r} has neither a padding nor an end-of-sequence "
                    "token, so texts cannot be batched: set tokenizer.pad_token and pass it in "
                    "reward_processing_classes."
                )
            reader.pad_token = reader.eos_token
        model.config.pad_token_id = reader.pad_token_id  # models that judge at the last token look for it
        model.eval()
        label = _label(model, options.pop("label", None), name)
        return RewardModel(model, reader, label=label, name=name, **options)

    def to(self, device: torch.device | str) -> RewardModel:
        """Moves the model if all of it is on the CPU; one that was put on an accelerator stays."""
        if {parameter.device.type for parameter in self.model.parameters()} == {"cpu"}:
            self.model.to(device)
        return self

    @torch.inference_mode()
    def __call__(self, prompts: Sequence[Any], completions: Sequence[Any], **kwargs: Any) -> list[float | None]:
        self.model.eval()
        texts = [self._text(prompt, completion) for prompt, completion in zip(prompts, completions, strict=True)]
        templated = [
            is_conversational(prompt) or is_conversational(completion)
            for prompt, completion in zip(prompts, completions, strict=True)
        ]
        encoded = self._encode(texts, templated)
        readable = [index for index, ids in enumerate(encoded) if ids]
        values: list[float | None] = [None] * len(encoded)
        for start in range(0, len(readable), self.batch_size):
            part = readable[start : start + self.batch_size]
            for index, value in zip(part, self._judge([encoded[index] for index in part]), strict=True):
                values[index] = value
        return values

    def _judge(self, encoded: Sequence[list[int]]) -> list[float]:
        longest = max(map(len, encoded))
        ids = torch.full((len(encoded), longest), self.tokenizer.pad_token_id)
        for row, tokens in enumerate(encoded):
            ids[row, : len(tokens)] = torch.tensor(tokens)
        real = torch.arange(longest) < torch.tensor([[len(tokens)] for tokens in encoded])
        device = self.model.device
        logits = self.model(input_ids=ids.to(device), attention_mask=real.long().to(device)).logits.double()
        return (logits[:, 0] if self.label is None else logits.softmax(-1)[:, self.label]).tolist()

    def _encode(self, texts: Sequence[str], templated: Sequence[bool]) -> list[list[int]]:
        """Token ids; special tokens come from the chat template, for plain text from the tokenizer."""
        longest, rows = self._longest(), self.model.get_input_embeddings().weight.shape[0]
        encoded = []
        for index, (text, finished) in enumerate(zip(texts, templated, strict=True)):
            ids = self.tokenizer(text, add_special_tokens=not finished, truncation=False, verbose=False)["input_ids"]
            ids = ids[: self.max_length]
            if longest is not None and len(ids) > longest:
                raise ValueError(
                    f"The text of completion {index}, {shortened(text)}, has {len(ids)} tokens and the reward model "
                    f"{self.name!r} reads at most {longest}. Sample shorter completions, or have texts cut: "
                    f"RewardModel.load(..., max_length={longest})."
                )
            if ids and max(ids) >= rows:
                raise ValueError(
                    f"The tokenizer of the reward model {self.name!r} gave the token id {max(ids)} for completion "
                    f"{index} and the model embeds {rows}: pass the model's own tokenizer in reward_processing_classes."
                )
            encoded.append(ids)
        return encoded

    def _text(self, prompt: Any, completion: Any) -> str:
        spoken = prompt if self.with_prompt else None
        if is_conversational(spoken) or is_conversational(completion):
            if self.tokenizer.chat_template is None:
                raise ValueError(
                    f"The tokenizer of the reward model {self.name!r} has no chat template and the completions are "
                    "messages: set tokenizer.chat_template and pass it in reward_processing_classes."
                )
            return self.tokenizer.apply_chat_template(
                [*_messages(spoken, "user"), *_messages(completion, "assistant")], tokenize=False
            )
        return (spoken if isinstance(spoken, str) else "") + text_of(completion)

    def _longest(self) -> int | None:
        """Tokens that the model reads, if it says so. Tokenizers without a limit name a huge number."""
        positions = self.model.config.to_dict().get("max_position_embeddings")
        limits = [limit for limit in (positions, self.tokenizer.model_max_length) if limit and limit < 10**9]
        return min(limits) if limits else None


def is_model(reward: Any) -> bool:
    """Whether it is a model of transformers, as it is, compiled or with adapters. Other modules are functions."""
    if not isinstance(reward, torch.nn.Module):
        return False
    from transformers import PretrainedConfig

    try:
        return isinstance(reward.config, PretrainedConfig)
    except AttributeError:
        return False


def _messages(said: Any, role: str) -> list[Any]:
    """What one side said as messages: messages as they are, a text as one, nothing (no prompt, an array) as none."""
    if is_conversational(said):
        return list(said)
    return [{"role": role, "content": said}] if isinstance(said, str) else []


def _label(model: Any, label: int | str | None, name: str) -> int | None:
    if not isinstance(label, str):
        return label
    known = model.config.label2id
    if label not in known:
        raise ValueError(f"label={label!r}: the reward model {name!r} has the labels {', '.join(map(repr, known))}.")
    return known[label]


def _tokenizer_of(source: str, name: str) -> Any:
    from transformers import AutoTokenizer

    remedy = "pass its tokenizer in reward_processing_classes."
    if not source:
        raise ValueError(
            f"The reward model {name!r} was not loaded from a folder or hub id, so its tokenizer is unknown: {remedy}"
        )
    try:
        tokenizer = AutoTokenizer.from_pretrained(source)
    except Exception as error:
        raise ValueError(
            f"The tokenizer of the reward model {source!r} cannot be loaded: {error} Else {remedy}"
        ) from error
    if set(tokenizer.get_vocab()) <= set(tokenizer.all_special_tokens):
        # this is what transformers makes of a folder without tokenizer files
        raise ValueError(f"The folder of the reward model {source!r} holds no vocabulary: {remedy}")
    return tokenizer

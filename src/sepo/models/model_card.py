"""README.md, the model card of the hub: what a model is, how it was made, what was measured, how it is used.

Plain data in, text out. What is not known is left out.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, ModelCardData

from sepo.diffusion.process import Absorbing
from sepo.models.ancestry import Base
from sepo.models.card import Card
from sepo.runs.numerals import numeral
from sepo.runs.plain import write_text

NAME = "README.md"
MARKER = "<!-- Written by sepo, and written anew with the model. Without this line it is yours and stays as it is. -->"

MEANINGS = {
    "posterior": "logits of p(x0_i | x_t)",
    "score": "logits of the concrete score, log s(x_t, t)",
    "leave_one_out": "logits of p(x0_i | x_t without site i)",
}
MEASURES = {
    "reward": "weighted sum of the rewards, mean over the sequences that were sampled",
    "eval_reward": "the same on the rows of the evaluation",
    "kl": "path KL to the reference, nats per sequence",
    "entropy": "nats per site",
    "network_evaluations": "sequences through the network, rollouts included",
    "train_loss": "mean over the run, nats per site",
    "eval_bound": "bound on -log p of held-out data, nats per site",
    "eval_perplexity": "exp of that bound",
}
LENGTH = 32
"""Sites in the example, of a model that takes any number."""


@dataclass(frozen=True)
class Measured:
    """A metric as it was logged last, and after which optimizer step."""

    name: str
    value: float
    step: int


@dataclass(frozen=True)
class Drawing:
    """How the example draws samples.

    samplers: classes in the code; code: the call that makes the sampler; words: its options on the command line;
    completion: free sites behind a text prompt, None for samples without prompts; texts: there is a tokenizer.
    """

    samplers: tuple[str, ...]
    code: str
    words: tuple[str, ...] = ()
    completion: int | None = None
    texts: bool = False


@dataclass(frozen=True)
class Facts:
    """What a card says.

    Args:
        title: name of the model.
        place: folder or hub id by which it is opened.
        made: what was done, as the end of a sentence: "fine-tuned on rewards".
        method: its name.
        drawing: the example of its use.
        card: sepo.json; None for a network of no family, which sepo.load does not open.
        base: what it was trained from, None from nothing.
        papers: title and arXiv id of each.
        rewards: weights by name.
        options: those of training that are not as they are by default.
        adapters: what kind, if the weights are adapters alone.
        note: on the metrics.
        about: further entries of the header, such as language, license, datasets.
    """

    title: str
    place: str
    made: str
    method: str
    drawing: Drawing
    card: Card | None = None
    base: Base | None = None
    tags: Sequence[str] = ()
    papers: Sequence[tuple[str, str]] = ()
    data: str = ""
    rewards: Mapping[str, float] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    adapters: str = ""
    metrics: Sequence[Measured] = ()
    note: str = ""
    about: Mapping[str, Any] = field(default_factory=dict)


def written_by_user(folder: Path) -> bytes | None:
    """The README.md of the folder; None without one, or if sepo wrote it."""
    path = folder / NAME
    found = path.read_bytes() if path.is_file() else None
    return None if found is None or MARKER.encode() in found else found


def write_model_card(facts: Facts, folder: Path) -> None:
    """README.md, whole or not at all; one that a user wrote stays."""
    if written_by_user(folder) is None:
        write_text(folder / NAME, str(model_card(facts)))


def model_card(facts: Facts) -> ModelCard:
    """The header in YAML, then the sections."""
    sections = (
        f"# {facts.title}",
        _opening(facts),
        _section("Model", _model(facts)),
        _section("Training", _training(facts)),
        _section("Results", _results(facts) if facts.metrics else ""),
        _section("Use", _use(facts)),
    )
    body = "\n\n".join(section for section in sections if section)
    return ModelCard(f"---\n{_header(facts).to_yaml()}\n---\n{MARKER}\n\n{body}\n")


def _header(facts: Facts) -> ModelCardData:
    base = facts.base
    entries: dict[str, Any] = {"library_name": "sepo", "tags": list(facts.tags)}
    if base is not None and base.hub_id is not None:
        entries |= {"base_model": base.hub_id, "base_model_relation": "adapter" if facts.adapters else "finetune"}
    if base is not None and "license" not in facts.about:
        entries |= base.license
    return ModelCardData(**entries, **facts.about)


def _section(title: str, text: str) -> str:
    return f"## {title}\n\n{text}" if text else ""


def _opening(facts: Facts) -> str:
    start = "" if facts.base is None else f", starting from {_named(facts.base)}"
    return f"A discrete diffusion model, {facts.made} with {facts.method}{start}."


def _named(base: Base) -> str:
    if base.hub_id is not None:
        return f"[{base.hub_id}](https://huggingface.co/{base.hub_id})"
    return f"the checkpoint `{base.name}`"


def _model(facts: Facts) -> str:
    rows: list[tuple[str, str]] = []
    if facts.base is not None:
        rows.append(("base model", _named(facts.base)))
    if facts.card is not None:
        rows += _through(facts.card)
    if facts.adapters:
        base = "the base model is in the folder `base`" if facts.base is None else "without the base model"
        rows.append(("weights", f"PEFT adapters ({facts.adapters}); {base}"))
    return _table(("", ""), rows) if rows else ""


def _through(card: Card) -> list[tuple[str, str]]:
    """The lens on the network: sepo.json in words."""
    described = json.loads(card.to_json())
    process, schedule, meaning = (described[name] for name in ("process", "schedule", "meaning"))
    where = f", mask {card.process.mask}" if isinstance(card.process, Absorbing) else ""
    return [
        ("family", f"`{card.family}`"),
        ("process", f"{process['kind']}: {card.process.size} token ids{where}"),
        ("schedule", _with_options(schedule)),
        ("parameterisation", f"{_with_options(meaning)}: {MEANINGS[meaning['kind']]}"),
        ("time", "the network does not see it" if card.time_free else "the network sees it"),
        ("length", "any" if card.length is None else f"{card.length} tokens"),
    ]


def _with_options(described: Mapping[str, Any]) -> str:
    options = ", ".join(f"{name}={value}" for name, value in described.items() if name != "kind")
    return f"{described['kind']} ({options})" if options else str(described["kind"])


def _training(facts: Facts) -> str:
    parts = [f"Method: {facts.method}."]
    parts += [f"Paper: *{title}*, [arXiv {arxiv}](https://arxiv.org/abs/{arxiv})." for title, arxiv in facts.papers]
    if facts.data:
        parts.append(f"Data: {facts.data}.")
    if facts.rewards:
        weights = [(f"`{name}`", f"{weight:g}") for name, weight in facts.rewards.items()]
        parts.append(_table(("reward", "weight"), weights))
    if facts.options:
        parts.append("Options that differ from their defaults:")
        parts.append(_table(("option", "value"), [(f"`{name}`", f"{value}") for name, value in facts.options.items()]))
    return "\n\n".join(parts)


def _results(facts: Facts) -> str:
    rows = [(f"`{each.name}`", numeral(each.value), each.step, MEASURES.get(each.name, "")) for each in facts.metrics]
    table = _table(("metric", "value", "step", "meaning"), rows)
    return f"What the trainer logged last.{f' {facts.note}' if facts.note else ''}\n\n{table}"


def _use(facts: Facts) -> str:
    if facts.card is None:
        return "The network belongs to no family of sepo: open its weights with the class that it was made with."
    parts = [f"```python\n{_python(facts, facts.card)}\n```", f"```console\n$ {_command(facts, facts.card)}\n```"]
    if facts.adapters and facts.base is not None and facts.base.hub_id is None:
        parts.append(
            f"The adapters need {_named(facts.base)}, which is not part of this repository: `base` in `sepo.json` says "
            "where it is looked for."
        )
    return "\n\n".join(parts)


def _python(facts: Facts, card: Card) -> str:
    drawing, place = facts.drawing, json.dumps(facts.place, ensure_ascii=False)
    prompted, framed = drawing.completion is not None, "frame" in json.loads(card.to_json())
    imports = [
        "import sepo",
        *([] if prompted or framed else ["from sepo.diffusion.canvas import Canvas"]),
        *(["from sepo.models import tokenizer_for"] if drawing.texts else []),
        "from sepo.ops import Chance",
        f"from sepo.samplers import {', '.join((*sorted(drawing.samplers), 'roll'))}",
        *(["from sepo.training.prompts import prompts_for"] if prompted else []),
        *(["from sepo.training.prompts import Unconditional"] if framed and not prompted else []),
    ]
    lines = [f"policy = sepo.load({place})"]
    if drawing.texts:
        lines.append(f"tokenizer = tokenizer_for({place})")
    if prompted:
        lines += [
            'rows = [{"prompt": "..."}] * 4',
            f"prompts = prompts_for(rows, tokenizer, {drawing.completion}, policy.length)",
            f"rollout = roll({drawing.code}, policy, prompts.canvas(rows), Chance.of(0, 4))",
            "print(prompts.completions(rollout))",
        ]
    else:
        length = card.length or LENGTH
        blank = (
            f"Unconditional({length}, frame=policy.frame).canvas([{{}}] * 4)"
            if framed
            else f"Canvas.blank(4, {length})"
        )
        shown = "tokenizer.batch_decode(rollout.x0)" if drawing.texts else "rollout.x0"
        lines += [
            f"canvas = {blank}",
            f"rollout = roll({drawing.code}, policy, canvas, Chance.of(0, 4))",
            f"print({shown})",
        ]
    return "\n".join([*imports, "", *lines])


def _command(facts: Facts, card: Card) -> str:
    words = ["sepo", "sample", facts.place, "--num", "4"]
    if facts.drawing.completion is not None:
        words += ["--prompts", "...", "--max_completion_length", str(facts.drawing.completion)]
    elif card.length is None:
        words += ["--length", str(LENGTH)]
    return shlex.join([*words, *facts.drawing.words])


def _table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def _cell(value: Any) -> str:
    return " ".join(str(value).replace("|", "\\|").split())

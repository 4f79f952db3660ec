"""sepo export: a model in the layout that its checkpoint was published in, or with its adapters merged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sepo.cli.console import prepare, say
from sepo.cli.errors import UsageError
from sepo.cli.grammar import Grammar, Group
from sepo.cli.opening import model_named
from sepo.cli.parsing import parse
from sepo.models import merged, save_pretrained, save_published, tokenizer_for


@dataclass(frozen=True)
class Export:
    """What is written, and how.

    Args:
        model: folder or hub id of the model; adapters are merged into it.
        layout: sedd, mdlm, mdlm_sedd, udlm, drakes, drakes_bare, drakes_network, dplm, llada or dream; null: our
            own, which transformers reads too.
        output: a folder; for a layout also one file that ends in .ckpt, .pt or .pth, which is Lightning's for mdlm,
            mdlm_sedd, udlm and drakes, and for sedd what load_model of its code reads.
        model_init_kwargs: how the model is loaded, as the options of sepo.load.
    """

    model: str | None = None
    layout: str | None = None
    output: str | None = None
    model_init_kwargs: dict[str, Any] | None = None


GRAMMAR = Grammar(
    "export",
    "Write a model in the layout that its checkpoint was published in, for the code that came with it; without a "
    "layout, a fine-tuned model with its adapters merged.",
    (Group("What is written, and how", Export),),
    ("MODEL", "folder or hub id of the model, in place of --model"),
)


def run(words: Sequence[str]) -> int:
    given = parse(GRAMMAR, words)
    what = given.made(Export)
    name = given.argument or what.model
    if name is None or what.output is None:
        raise UsageError("Which model, and where to? Usage: sepo export MODEL --output FOLDER [--layout NAME]")
    prepare()
    policy = merged(model_named(name, **(what.model_init_kwargs or {})))
    if what.layout is None:
        save_pretrained(policy, what.output)
        tokenizer = tokenizer_for(name)
        if tokenizer is not None:
            tokenizer.save_pretrained(what.output)
    else:
        save_published(policy, what.output, what.layout)
    say(f"Model: [bold]{what.output}[/]")
    return 0

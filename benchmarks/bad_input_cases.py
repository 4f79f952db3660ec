"""Everything that can be wrong with an input, and how it is provoked: `CASES`, in the order of the tables."""

from __future__ import annotations

import contextlib
import io
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from bad_input_machine import Poison, full_disk, killed_while_saving, not_finite, other_sizes, pressed
from bad_input_runs import (
    Case,
    Row,
    clues,
    full_rows,
    logged,
    long_rows,
    ones,
    policy,
    pretrain,
    run,
    uneven_rows,
    uniform,
    words,
)
from safetensors.torch import load_file, save_file

from sepo import SEPOConfig, load
from sepo.cli import main as command
from sepo.diffusion.process import Absorbing
from sepo.models import as_denoiser, save_pretrained


# ----------------------------------------------------------------------------------------------------------- rewards
def spoiled(value: Any, at: int = 2) -> Callable[..., list[Any]]:
    def judge(completions: Sequence[Any], **columns: Any) -> list[Any]:
        return [value if row == at else 0.5 for row in range(len(completions))]

    return judge


def judged_by(judge: Callable[..., Any], **options: Any) -> Callable[[Path], str]:
    judge.__name__ = "judge"

    def provoke(folder: Path) -> str:
        run(folder, judge, **options).train()
        return "the run goes on"

    return provoke


def raising(completions: Sequence[Any], **columns: Any) -> list[float]:
    return [1 / 0 for _ in completions]


def not_finite_as_none(folder: Path) -> str:
    run(folder, spoiled(float("nan")), non_finite_rewards="none").train()
    counted = logged(folder, "rewards/judge/non_finite")
    return f"the completion takes no part; counted in `rewards/judge/non_finite` ({counted[0]:g} per collection)"


def all_none(folder: Path) -> str:
    run(folder, lambda completions, **columns: [None] * len(completions), clues(2)).train()
    share, loss = logged(folder, "frac_reward_none")[0], logged(folder, "loss")[0]
    return f"no advantage and no gradient (loss {loss:g}); counted in `frac_reward_none` ({share:g})"


def all_equal(folder: Path) -> str:
    run(folder, lambda completions, **columns: [1.0] * len(completions), clues(2)).train()
    share, loss = logged(folder, "frac_reward_zero_std")[0], logged(folder, "loss")[0]
    return f"advantage 0 (loss {loss:g}); counted in `frac_reward_zero_std` ({share:g})"


def slow(completions: Sequence[Any], **columns: Any) -> list[float]:
    time.sleep(0.5)
    return ones(completions)


def flaky(folder: Path) -> str:
    asked: list[int] = []

    def judge(completions: Sequence[Any], **columns: Any) -> list[float]:
        asked.append(1)
        if len(asked) % 3 == 1:
            raise ConnectionError("503")
        return ones(completions)

    run(folder, judge, reward_retries=2, max_steps=1).train()
    retries = logged(folder, "rewards/judge/retries")[0]
    return f"it is asked again after 1 s, then 2 s; counted in `rewards/judge/retries` ({retries:g} per collection)"


# ------------------------------------------------------------------------------------------------- options and models
def saved(folder: Path) -> Path:
    save_pretrained(policy(), folder / "model")
    return folder / "model"


def unknown_word(folder: Path) -> str:
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        code = command(["finetune", "--num_generation", "4"])
    return f"exit code {code}: {' '.join(said.getvalue().split())}"


def made(change: Callable[[], Any]) -> Callable[[Path], str]:
    def provoke(folder: Path) -> str:
        change()
        return "nothing"

    return provoke


def foreign_tokenizer(folder: Path) -> str:
    run(folder, ones, [{"prompt": "the cat sat"}], processing_class=words(), max_completion_length=2).train()
    return "nothing"


def truncated(folder: Path) -> str:
    weights = saved(folder) / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:2000])
    load(folder / "model")
    return "nothing"


def foreign(folder: Path) -> str:
    save_file({"other.weight": torch.zeros(3)}, saved(folder) / "model.safetensors")
    load(folder / "model")
    return "nothing"


def pickled(folder: Path) -> str:
    weights = saved(folder) / "model.safetensors"
    torch.save(load_file(weights), weights.with_name("pytorch_model.bin"))
    weights.unlink()
    load(folder / "model")
    return "nothing"


def no_checkpoint(folder: Path) -> str:
    (folder / "notes.txt").write_text("hello")
    load(folder)
    return "nothing"


def wrong_card(change: Callable[[Row], None]) -> Callable[[Path], str]:
    """A checkpoint whose card was edited."""

    def provoke(folder: Path) -> str:
        card = saved(folder) / "sepo.json"
        described = json.loads(card.read_text())
        change(described)
        card.write_text(json.dumps(described))
        load(folder / "model")
        return "nothing"

    return provoke


# -------------------------------------------------------------------------------------------------------------- rows
def prompted(rows: Any, **options: Any) -> Callable[[Path], str]:
    def provoke(folder: Path) -> str:
        model = policy(len(words()), 8)
        run(folder, ones, rows, model, processing_class=words(), max_completion_length=5, **options).train()
        return "nothing"

    return provoke


CASES = (
    Case("a reward raises", judged_by(raising)),
    Case("a reward returns too few values", judged_by(lambda completions, **columns: [0.5] * (len(completions) - 1))),
    Case("a reward returns NaN", judged_by(spoiled(float("nan")))),
    Case("a reward returns an infinity", judged_by(spoiled(float("inf")))),
    Case("a reward returns NaN, with `non_finite_rewards='none'`", not_finite_as_none),
    Case("a reward returns a text in place of a number", judged_by(spoiled("good"))),
    Case("a reward returns one number in place of a list", judged_by(lambda completions, **columns: 0.5)),
    Case("a reward asks for a column that there is not", judged_by(lambda completions, answer: [0.5])),
    Case("every reward of a group is `None`", all_none),
    Case("every reward of a group is equal", all_equal),
    Case("a slow reward, with `reward_timeout=0.1`", judged_by(slow, reward_timeout=0.1)),
    Case("a flaky reward, with `reward_retries=2`", flaky),
    Case("fewer weights than rewards", lambda folder: str(run(folder, [ones, ones], reward_weights=[1.0]))),
    Case("an unknown option on the command line", unknown_word),
    Case("an unknown option in Python", lambda folder: str(SEPOConfig(str(folder), num_generation=4))),  # type: ignore
    Case("an unknown word for an option", lambda folder: str(run(folder, sampler="first-hitting"))),
    Case("a batch that does not hold whole groups", lambda folder: str(run(folder, per_device_train_batch_size=6))),
    Case("a group of one", lambda folder: str(run(folder, rows=clues(2), num_generations=1))),
    Case("no prompts and no `max_steps`", lambda folder: str(run(folder, max_steps=-1))),
    Case("FSDP or DeepSpeed", lambda folder: str(run(folder, fsdp="full_shard"))),
    Case(
        "a reading of masks for a uniform process",
        lambda folder: str(run(folder, model=uniform(), reading="next_site")),
    ),
    Case(
        "a process of another vocabulary than the network's",
        made(lambda: as_denoiser(policy().network, Absorbing(7, mask=6))),
    ),
    Case("a mask id outside the vocabulary", made(lambda: Absorbing(5, mask=5))),
    Case(
        "a length that the network does not take",
        made(lambda: as_denoiser(policy().network, Absorbing(5, mask=4), length=9)),
    ),
    Case("a card that names another vocabulary", wrong_card(lambda card: card["process"].update(size=9, mask=8))),
    Case("the tokenizer of another model", foreign_tokenizer),
    Case("a folder that is not a checkpoint", no_checkpoint),
    Case("a truncated safetensors file", truncated),
    Case("the safetensors file of another network", foreign),
    Case("a pickle in place of a safetensors file", pickled),
    Case("neither a folder nor a model of the hub", made(lambda: load("no/such/folder/at/all"))),
    Case("an empty set of prompts", prompted([])),
    Case("rows without prompts", prompted([{"question": "?"}])),
    Case("a prompt longer than the canvas", prompted([{"prompt": "the cat sat on a mat"}])),
    Case("a prompt of `tokens` longer than the model", lambda folder: str(run(folder, rows=long_rows()).train())),
    Case("a prompt with nothing to fill", lambda folder: str(run(folder, rows=full_rows()).train())),
    Case("a row that lacks a column of the others", lambda folder: str(run(folder, rows=uneven_rows()).train())),
    Case("text without a tokenizer", lambda folder: str(run(folder, rows=[{"prompt": "the cat"}]))),
    Case("pretraining data with an unknown token", lambda folder: str(pretrain(folder, [0, 1, 2, 9, 1, 0]).train())),
    Case("pretraining data with the mask in them", lambda folder: str(pretrain(folder, [0, 1, 2, 4, 1, 0]).train())),
    Case("a disk that fills up while a checkpoint is written", full_disk),
    Case("a kill while a checkpoint is written", killed_while_saving),
    Case("a run resumed with other sizes", other_sizes),
    Case("nothing to resume from", lambda folder: str(run(folder).train(resume_from_checkpoint=True))),
    Case("Ctrl-C", pressed(1)),
    Case("Ctrl-C twice", pressed(2)),
    Case("a loss that is not finite", not_finite({"scale_rewards": "none"}, largest=3e38)),
    Case("a gradient that is not finite", not_finite({"callbacks": [Poison()]})),
)
HEADINGS = {
    "a reward raises": "Rewards",
    "an unknown option on the command line": "Options and sizes",
    "a reading of masks for a uniform process": "Models and files",
    "an empty set of prompts": "Prompts and data",
    "a disk that fills up while a checkpoint is written": "While a run goes on",
}
"""Of the table that begins with a case."""

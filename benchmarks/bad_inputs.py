"""Everything that can be wrong with an input, provoked at toy size, and what happens then: a table.

    python benchmarks/bad_inputs.py                                              prints it, in about half a minute
    python benchmarks/bad_inputs.py --write docs/guide/troubleshooting.md        puts it between the marks of a page

A full disk is a limit on the size of files, a kill is SIGKILL, and both meet a process of their own.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import multiprocessing
import os
import resource
import shutil
import signal
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, TrainerCallback
from transformers.utils import logging

from sepo import PretrainConfig, PretrainTrainer, SEPOConfig, SEPOTrainer, load
from sepo.cli import main as command
from sepo.diffusion.denoiser import Denoiser
from sepo.diffusion.process import Absorbing, Uniform
from sepo.models import as_denoiser, save_pretrained
from sepo.models.networks.positions import Learned
from sepo.models.networks.transformer import Transformer, TransformerConfig
from sepo.runs import RunFolder, read_metrics
from sepo.training.checkpoint import last_complete

LETTERS, MASK, LENGTH = 4, 4, 6
BEGIN, END = "<!-- bad inputs: begin -->", "<!-- bad inputs: end -->"
Row = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """provoke: raises, or tells what happened instead. It gets an empty folder."""

    what: str
    provoke: Callable[[Path], str]


# ------------------------------------------------------------------------------------------------------ a small run
def policy(vocabulary: int = LETTERS + 1, length: int = LENGTH) -> Denoiser:
    settings = TransformerConfig(vocabulary, Learned(length), 16, 1, 2)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return as_denoiser(Transformer(settings), Absorbing(vocabulary, mask=min(MASK, vocabulary - 1)))


def ones(completions: Sequence[Any], **columns: Any) -> list[float]:
    return [float(np.mean(np.asarray(completion) == 1)) for completion in completions]


def run(folder: Path, reward: Any = ones, rows: Any = None, model: Any = None, **changes: Any) -> SEPOTrainer:
    objects = {name: changes.pop(name) for name in ("processing_class", "callbacks") if name in changes}
    options = {"max_steps": 4, "num_generations": 4, "logging_steps": 1, "save_strategy": "no", "learning_rate": 0.01}
    quiet = {"report_to": "none", "disable_tqdm": True, "use_cpu": True, "save_completions": False}
    args = SEPOConfig(str(folder), **{**options, **quiet, **changes})
    return SEPOTrainer(policy() if model is None else model, reward, args, rows, **objects)


def pretrain(folder: Path, tokens: list[int]) -> PretrainTrainer:
    args = PretrainConfig(str(folder), max_steps=1, report_to="none", disable_tqdm=True, use_cpu=True)
    return PretrainTrainer(policy(), args, [{"tokens": tokens}])


def clues(number: int) -> list[Row]:
    return [{"tokens": [row % LETTERS] + [0] * 5, "free": [False] + [True] * 5} for row in range(number)]


def words() -> PreTrainedTokenizerFast:
    vocabulary = {
        word: number
        for number, word in enumerate(["[PAD]", "[MASK]", "[EOS]", "[UNK]", "the", "cat", "sat", "on", "a", "mat"])
    }
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    special = {"pad_token": "[PAD]", "mask_token": "[MASK]", "eos_token": "[EOS]", "unk_token": "[UNK]"}
    return PreTrainedTokenizerFast(tokenizer_object=made, **special)


def logged(folder: Path, name: str) -> list[float]:
    return [line[name] for line in read_metrics(RunFolder(folder)) if name in line]


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


def saved(folder: Path) -> Path:
    save_pretrained(policy(), folder / "model")
    return folder / "model"


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


# -------------------------------------------------------------------------------------------------------- rows
def prompted(rows: Any, **options: Any) -> Callable[[Path], str]:
    def provoke(folder: Path) -> str:
        model = policy(len(words()), 8)
        run(folder, ones, rows, model, processing_class=words(), max_completion_length=5, **options).train()
        return "nothing"

    return provoke


# --------------------------------------------------------------------------------------- what happens to the machine
def in_a_process(action: Callable[[], str]) -> str:
    """What `action` told or raised in a child; what ended the child, if it did not come to an end."""
    receiving, sending = multiprocessing.Pipe(duplex=False)

    def work() -> None:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            sending.send(told(action))

    child = multiprocessing.get_context("fork").Process(target=work)
    child.start()
    child.join()
    if receiving.poll():
        return receiving.recv()
    return f"the process ended by {signal.Signals(-(child.exitcode or 0)).name}"


def full_disk(folder: Path) -> str:
    run(folder, save_strategy="steps", save_steps=2, max_steps=2).train()

    def work() -> str:
        again = run(folder, save_strategy="steps", save_steps=2)
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (12_000, 12_000))
        again.train(resume_from_checkpoint=True)
        return "nothing"

    ended = in_a_process(work)
    load(folder / "checkpoint-2")
    again = run(folder, save_strategy="steps", save_steps=2)
    again.train(resume_from_checkpoint=True)
    return f"{ended} Resumed with room: step {again.state.global_step} is reached"


def killed_while_saving(folder: Path) -> str:
    save = torch.save

    def torn(value: Any, path: Any, *others: Any, **options: Any) -> None:
        save(value, path, *others, **options)
        if "checkpoint-4" in str(path):
            Path(path).write_bytes(Path(path).read_bytes()[:100])
            os.kill(os.getpid(), signal.SIGKILL)

    def work() -> str:
        torch.save = torn
        run(folder, save_strategy="steps", save_steps=2).train()
        return "nothing"

    ended = in_a_process(work)
    assert ended == "the process ended by SIGKILL" and (folder / "checkpoint-4").is_dir()
    found = last_complete(folder)
    assert found is not None
    load(found)
    again = run(folder)
    again.train(resume_from_checkpoint=True)
    return (
        "`checkpoint-4` has no `trainer_state.json` and is passed over: `resume_from_checkpoint=True` finds "
        f"`{found.name}`, and `sepo.load` opens it"
    )


def other_sizes(folder: Path) -> str:
    run(folder, save_strategy="steps", save_steps=4).train()
    run(folder, per_device_train_batch_size=4).train(resume_from_checkpoint=True)
    return "nothing"


def pressed(times: int) -> Callable[[Path], str]:
    def provoke(folder: Path) -> str:
        asked: list[int] = []

        def judge(completions: Sequence[Any], **columns: Any) -> list[float]:
            asked.append(1)
            for _ in range(times if len(asked) == 2 else 0):
                os.kill(os.getpid(), signal.SIGINT)
            return ones(completions)

        trainer = run(folder, judge)
        trainer.train()
        found = last_complete(folder)
        assert found is not None
        return f"the run ends after the step in progress (2 of 4), with `{found.name}`, from which it can be resumed"

    return provoke


class Poison(TrainerCallback):
    """Makes a gradient NaN before the second step."""

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **others: Any) -> None:
        model.head.weight.register_hook(lambda gradient: gradient * torch.nan)


def not_finite(options: Row, largest: float = 1.0) -> Callable[[Path], str]:
    def provoke(folder: Path) -> str:
        def judge(completions: Sequence[Any], **columns: Any) -> list[float]:
            return [largest * value for value in ones(completions)]

        run(folder, judge, **options).train()
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


def uniform() -> Denoiser:
    settings = TransformerConfig(LETTERS, Learned(LENGTH), 16, 1, 2)
    return as_denoiser(Transformer(settings), Uniform(LETTERS))


def long_rows() -> list[Row]:
    return [{"tokens": [0] * 8, "free": [True] * 8}]


def uneven_rows() -> list[Row]:
    return [{**row, **({"answer": 1} if place == 0 else {})} for place, row in enumerate(clues(2))]


def full_rows() -> list[Row]:
    return [{"tokens": [0] * 6, "free": [False] * 6}]


# -------------------------------------------------------------------------------------------------------- the table
def told(action: Callable[[], str]) -> str:
    try:
        return action()
    except (Exception, KeyboardInterrupt) as error:
        message = " ".join(str(error).split())
        return f"`{type(error).__name__}`: {message}" if message else f"`{type(error).__name__}`, at once"


def outcome(case: Case) -> str:
    folder = Path(tempfile.mkdtemp(prefix="bad-inputs-"))
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            found = told(lambda: case.provoke(folder))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return found.replace(f"{folder}/", "").replace(str(folder), "runs/mine").replace("|", "\\|")


def table(cases: Sequence[Case] = CASES) -> str:
    rows = [f"| {case.what} | {outcome(case)} |" for case in cases]
    return "\n".join(["| input | what happens |", "|---|---|", *rows])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", type=Path, help="a page with marks between which the table belongs")
    page = parser.parse_args().write
    torch.set_num_threads(1)
    logging.set_verbosity_error()
    warnings.simplefilter("ignore")
    started = time.monotonic()
    made_table = table()
    print(made_table)
    print(f"\n{len(CASES)} cases in {time.monotonic() - started:.0f} s")
    if page is not None:
        before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
        after = rest.partition(END)[2]
        page.write_text(f"{before}{BEGIN}\n\n{made_table}\n\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()

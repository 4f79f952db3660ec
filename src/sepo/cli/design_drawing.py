"""What `sepo design` draws from the tuned generator, and what is asked about it: kept, each in a file, in `drawn/`.

    sequences.npy         tokens of all that was drawn
    reward.npy, ...       what each oracle says of the distinct ones
    log_likelihood.npy    of the designs

An oracle that fails later, or is changed, costs no draw.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from hashlib import sha256
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sepo.cli.asking import ask
from sepo.cli.console import progress, say
from sepo.cli.design_generator import generator_of
from sepo.cli.design_options import Design
from sepo.cli.design_training import oracle_marks
from sepo.cli.guiding import Opened, guidance_for
from sepo.cli.kept import Costs, Kept, kept
from sepo.cli.marks import files_of, marks
from sepo.cli.opening import chosen_sampler
from sepo.cli.samples import draw_samples, rows_for
from sepo.diffusion.denoiser import Denoiser, evaluating
from sepo.diffusion.likelihood import bound
from sepo.models import load
from sepo.ops import Chance
from sepo.oracles import Ensemble
from sepo.runs.plain import read_json
from sepo.samplers.guided import UNREWARDED, needs_kernel
from sepo.tasks import Measured
from sepo.tasks.asking import Answers
from sepo.tasks.base import device_for
from sepo.training.prompts import Unconditional
from sepo.typing import PerSequence, Tokens

DRAWS = 16
"""Network evaluations of each design in the bound of its log-likelihood."""
AT_ONCE = 64
PARTS, LEAST = 20, 16
"""Batches in which is drawn, so that a bar moves, of so many sequences at least."""


def drawn(what: Design, task: Measured) -> Kept:
    """All that is drawn, [number, length], with repeats.

    Raises:
        ValueError: the guidance does not fit; its reward failed.
    """
    rests_on = {"options": _options(what), "files": _files(what)}

    def make() -> tuple[np.ndarray, Costs]:
        return draw(what, task, load(what.folder / "tuned", device_for(what.device)))

    return kept(what.folder / "drawn" / "sequences.npy", rests_on, make)


def draw(what: Design, task: Measured, policy: Denoiser) -> tuple[np.ndarray, Costs]:
    """Samples of the policy, and what they cost."""
    assert policy.length is not None
    options = _guidance_options(what)
    tuned = Opened(str(what.folder / "tuned"), policy, what.generator_options)
    guidance = guidance_for(what.guidance, options, None, task, tuned)
    together = 1 if guidance is None else guidance.together
    number = -(-what.oversample * what.num // together) * together
    sampler = chosen_sampler(policy, None, what.design_steps, kernel=needs_kernel(what.guidance, options))
    led = "" if what.guidance is None else f", led by {what.guidance}"
    say(f"Drawing {number} sequences of which {what.num} become designs{led}")
    with progress("  drawing", number) as told:
        samples = draw_samples(
            policy,
            sampler,
            Unconditional(policy.length),
            rows_for(None, number),
            what.seed,
            at_once=min(max(number // PARTS, LEAST), 256),
            guidance=guidance,
            told=lambda done: told(done, ""),
        )
    costs: dict[str, Any] = {"network_evaluations": samples.evaluations, "reward_calls": samples.reward_calls}
    if samples.effective is not None:
        costs["effective_sample_size"] = samples.effective.mean
    return samples.tokens, costs


def _guidance_options(what: Design) -> dict[str, Any]:
    options = dict(what.guidance_kwargs or {})
    if what.guidance in UNREWARDED and options.get("unconditional") is None:
        options["unconditional"] = what.base  # designs have no prompt that could be masked
    return options


def _options(what: Design) -> dict[str, Any]:
    named = {name: getattr(what, name) for name in ("seed", "num", "oversample", "design_steps")}
    return {**named, "guidance": what.guidance, "guidance_kwargs": _guidance_options(what)}


def _files(what: Design) -> dict[str, Any]:
    """What tells the models and the oracle that take part in drawing from any others."""
    found: dict[str, Any] = marks(files_of(str(what.folder / "tuned")))
    if what.guidance in UNREWARDED:
        return found | marks(files_of(str(_guidance_options(what)["unconditional"])))
    if what.guidance is None:
        return found
    return found | marks(files_of(_guidance_options(what).get("value"))) | oracle_marks(what, "reward")


def answers_of(what: Design, task: Measured, tokens: Tokens) -> Answers:
    """What the oracles say of sequences.

    Raises:
        ValueError: an oracle from outside failed; what others have said is kept.
    """
    found = {name: _answers(what, task, name, tokens) for name in ("reward", "judge")}
    if what.reward_is_ensemble:
        found["doubt"] = _answers(what, task, "reward", tokens, spread=True)
    if task.has_other:
        found["other"] = _answers(what, task, "other", tokens)
    return Answers(**found)


def _answers(what: Design, task: Measured, name: str, tokens: Tokens, spread: bool = False) -> PerSequence:
    """spread: the standard deviation between the members of an ensemble, in place of its answer."""
    rests_on = {"sequences": mark_of(tokens), "oracle": oracle_marks(what, name)}

    def make() -> tuple[np.ndarray, Costs]:
        oracle = task.oracle(name)
        says = oracle.spread if spread and isinstance(oracle, Ensemble) else oracle
        return ask(f"oracle {name}", says, tokens).numpy(), {}

    return _as_tensor(kept(what.folder / "drawn" / f"{'doubt' if spread else name}.npy", rests_on, make))


def log_likelihood(what: Design, tokens: Tokens) -> PerSequence:
    """A lower bound on log p under the generator, in nats per sequence."""
    rests_on = {
        "sequences": mark_of(tokens),
        "generator": {"name": what.base, **marks(files_of(what.base))},
        "options": {"draws": DRAWS, "seed": what.seed},
    }

    def make() -> tuple[np.ndarray, Costs]:
        policy = generator_of(what)
        with evaluating(policy.network), progress("  log-likelihood", len(tokens)) as told:
            return _bounds(policy, tokens, what.seed, lambda done: told(done, "")).numpy(), {}

    return _as_tensor(kept(what.folder / "drawn" / "log_likelihood.npy", rests_on, make))


def _bounds(policy: Denoiser, tokens: Tokens, seed: int, told: Callable[[int], None]) -> Tensor:
    found = []
    for start in range(0, len(tokens), AT_ONCE):
        part = tokens[start : start + AT_ONCE].to(policy.device)
        chance = Chance.seeded(seed, range(start, start + len(part)), 1, policy.device)
        found.append(-bound(policy, part, torch.ones_like(part, dtype=torch.bool), chance, draws=DRAWS).cpu())
        told(start + len(part))
    return torch.cat(found)


def seconds_of(what: Design, columns: Iterable[str]) -> float:
    """What drawing, the oracles' answers and the log-likelihood took when they were made. columns: of the designs."""
    paths = [what.folder / "drawn" / f"{name}.json" for name in ("sequences", *columns)]
    return round(sum(read_json(path)["costs"]["seconds"] for path in paths if path.is_file()), 1)


def mark_of(tokens: Tokens) -> str:
    return sha256(tokens.contiguous().numpy().tobytes()).hexdigest()


def _as_tensor(found: Kept) -> PerSequence:
    return torch.from_numpy(found.array)

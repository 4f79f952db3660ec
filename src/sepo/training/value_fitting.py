r"""A value that is learned: a network that says which reward a state on the way may expect, for SVDD and SMC (SVDD-MC:
Derivative-Free Guidance in Continuous and Discrete Diffusion Models with Soft Value-Based Decoding, arXiv 2408.08252).

Rewards of finished rollouts are regressed on the states that led there, each rollout at a step drawn at random,

    beta = 0   minimise  E (r(x0) - f(x_t, t))^2                     v = f = E[r(x0) | x_t], the paper's choice
    beta > 0   minimise  E [exp(g) - g exp((r(x0) - top) / beta)]    v = top + beta g

The second loss is Poisson's: as of the square its minimum is the mean, and it keeps exp(g) above 0. That v is the soft
value beta log E[exp(r(x0) / beta) | x_t], of a higher variance. The network is a convolution over the tokens, masks
among them, so that a guided draw evaluates the policy once per step, not once per candidate.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from sepo.diffusion.canvas import Canvas
from sepo.diffusion.denoiser import Denoiser
from sepo.diffusion.process import Absorbing, Process
from sepo.diffusion.rollout import MaskedPath, Rollout
from sepo.ops import Chance
from sepo.oracles import Ensemble, load_oracle
from sepo.oracles.fitting import correlation, held_back
from sepo.oracles.network import ConvOracle, ConvOracleConfig
from sepo.oracles.saved import save_oracle
from sepo.record import concatenate
from sepo.runs.plain import read_json, write_json
from sepo.samplers import KernelSampler, roll
from sepo.samplers.guided import Standing, TokenReward
from sepo.samplers.guided.scoring import score
from sepo.typing import Float, Int, Tokens

FITTING = 11
"""The purpose of the rollouts' generators: they share nothing with those of training or sampling."""
FILE = "value.json"
MOST_LETTERS = 1024
CHECKS = 20
"""How often, while it is fitted, the network is compared on rollouts that are held back."""

Numbers = Int[Tensor, " batch"]


@dataclass(frozen=True)
class ValueFit:
    """How a value is learned.

    Args:
        sequences: rollouts, each of which the reward is asked about once.
        beta: reward per nat of the soft value; 0: the mean reward that is to be expected.
        updates: of the network, by Adam; the weights that do best on a tenth of the rollouts are kept.
        batch: states per update.
        lr: learning rate, at the top of a one-cycle schedule.
        hidden_size: channels of the network.
        kernel: sites that a filter of it sees.
        at_once: rollouts drawn at once.
        seed: of all chance.
    """

    sequences: int = 1024
    beta: float = 0.0
    updates: int = 1000
    batch: int = 256
    lr: float = 2e-3
    hidden_size: int = 64
    kernel: int = 13
    at_once: int = 64
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("sequences", 10), ("updates", 1), ("batch", 2), ("hidden_size", 1), ("at_once", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"value: {name}={getattr(self, name)} must be at least {least}.")
        if self.beta < 0 or self.lr <= 0 or self.kernel < 1 or self.kernel % 2 == 0:
            raise ValueError(
                f"value: beta={self.beta}, lr={self.lr}, kernel={self.kernel}: needs beta of 0 or more, a rate above "
                "0 and an odd kernel."
            )


@dataclass(frozen=True)
class Fitted:
    """What a value was fitted to, and what that took. size: token ids; steps: of the sampler; top: the highest reward
    seen; correlation: with the rewards of held-back rollouts, over states on their way."""

    size: int
    steps: int
    beta: float
    top: float
    reward_calls: int
    evaluations: int
    correlation: float


@dataclass(frozen=True, eq=False)
class FittedValue:
    """A `Value` for guided samplers: SVDD(inner, reward, 8, value=fit_value(policy, inner, reward))."""

    network: ConvOracle
    fitted: Fitted
    reads_posterior = False

    def __call__(self, standing: Standing, chance: Chance) -> Float[Tensor, " batch"]:
        return score(lambda x: self.of(x, standing.step), standing.x)

    @torch.no_grad()
    def of(self, tokens: Tokens, step: Numbers) -> Float[Tensor, " batch"]:
        """tokens: after so many steps of the sampler that it was fitted to."""
        said = self.network.to(tokens.device)(_seen(tokens, step, self.fitted))  # type: ignore[arg-type]
        return self.fitted.top + self.fitted.beta * said if self.fitted.beta else said


def fit_value(
    policy: Denoiser,
    inner: KernelSampler,
    reward: TokenReward,
    how: ValueFit | None = None,
    canvas: Canvas | None = None,
    told: Callable[[str], None] = lambda line: None,
) -> FittedValue:
    """canvas: of the rollouts, None: `how.sequences` without prompt; told: news of the progress.

    Raises:
        ValueError: the token ids are too many for the network; the reward is no finite number for each sequence.
    """
    how, size = how or ValueFit(), policy.process.size
    if size > MOST_LETTERS:
        raise ValueError(
            f"A value is fitted to at most {MOST_LETTERS} token ids, and this model has {size}: give one of your own, "
            "SVDD(..., value=Learned(function of tokens and steps)), or leave value out."
        )
    before, device = policy.meter.evaluations, policy.device
    canvas = (Canvas.blank(how.sequences, policy.length or 0) if canvas is None else canvas).to(device)
    told(f"Drawing {len(canvas)} rollouts to learn a value from")
    parts = []
    for start in range(0, len(canvas), how.at_once):
        part = canvas[start : start + how.at_once]
        chance = Chance.seeded(how.seed, range(start, start + len(part)), 1, device, FITTING)
        parts.append(roll(inner, policy, part, chance))
    rollout: Rollout = concatenate(parts)
    with torch.no_grad():
        found = score(reward, rollout.x0)
    spent = policy.meter.evaluations - before
    facts = Fitted(size, inner.steps, how.beta, float(found.max()), len(found), spent, 0.0)
    with torch.enable_grad():  # samples are drawn without
        made = _fitted(rollout, policy.process, found, facts, how)
    told(f"Learned a value: correlation {made.fitted.correlation:.2f} with rewards of held-back rollouts")
    return made


def _fitted(rollout: Rollout, process: Process, reward: Tensor, facts: Fitted, how: ValueFit) -> FittedValue:
    generator = Generator().manual_seed(how.seed)
    order = torch.randperm(len(reward), generator=generator)
    held, used = order.split([held_back(len(order)), len(order) - held_back(len(order))])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(how.seed)
        network = _network(reward[used.to(reward.device)], facts, how).to(reward.device)  # type: ignore[arg-type]
        optimizer = torch.optim.AdamW(network.parameters(), lr=how.lr)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, how.lr, total_steps=how.updates)
        held = held.repeat(-(-4 * how.batch // len(held)))
        check = held, torch.randint(facts.steps + 1, held.shape, generator=generator)
        best, weights = float("inf"), copy.deepcopy(network.state_dict())
        for update in range(how.updates):
            row = used[torch.randint(len(used), (how.batch,), generator=generator)]
            at = torch.randint(facts.steps + 1, row.shape, generator=generator)
            optimizer.zero_grad()
            _error(network.train(), rollout, process, reward, facts, (row, at)).backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            if update == how.updates - 1 or (update + 1) % max(how.updates // CHECKS, 1) == 0:
                with torch.no_grad():
                    error = float(_error(network.eval(), rollout, process, reward, facts, check))
                if error < best:
                    best, weights = error, copy.deepcopy(network.state_dict())
        network.load_state_dict(weights)
    made = FittedValue(network.eval(), facts)
    said = made.of(*_states(rollout, process, *check))
    return replace(made, fitted=replace(facts, correlation=correlation(said, reward[check[0].to(reward.device)])))


def _network(reward: Tensor, facts: Fitted, how: ValueFit) -> ConvOracle:
    """It begins at the value of the start, whatever the state."""
    deviation = max(float(reward.std()), 1e-6)
    if facts.beta:
        log_mean = float(((reward - facts.top) / facts.beta).logsumexp(0)) - float(torch.tensor(len(reward)).log())
        scale: Any = {"mean": log_mean, "deviation": deviation / facts.beta}
    else:
        scale = {"mean": float(reward.mean()), "deviation": deviation}
    letters = "x" * (facts.size + 1)  # of which only the number counts: token ids, and how far the sampler is
    made = ConvOracle(ConvOracleConfig(letters, hidden_size=how.hidden_size, kernel=how.kernel, dropout=0.1, **scale))
    last: Any = made.head[-1]
    nn.init.zeros_(last.weight)
    return made


def _error(
    network: ConvOracle,
    rollout: Rollout,
    process: Process,
    reward: Tensor,
    facts: Fitted,
    where: tuple[Numbers, Numbers],
) -> Tensor:
    """Per state; where: numbers of rollouts, and of steps.

    Of the soft value it is less what no network changes, so that it is of order 1.
    """
    said, goal = network(_seen(*_states(rollout, process, *where), facts)), reward[where[0].to(reward.device)]
    if not facts.beta:
        return ((said - goal.to(said)) / network.config.deviation).square().mean()
    ahead = said - network.config.mean
    share = ((goal - facts.top) / facts.beta - network.config.mean).exp().to(said)
    return (ahead.exp() - share * ahead).mean()


def _states(rollout: Rollout, process: Process, row: Numbers, step: Numbers) -> tuple[Tokens, Numbers]:
    """The states of these rollouts after so many steps."""
    row, step = row.to(rollout.x0.device), step.to(rollout.x0.device)
    if isinstance(rollout, MaskedPath):
        assert isinstance(process, Absorbing)
        return rollout[row].states(step.unsqueeze(1), process.mask).squeeze(1), step
    return rollout.states[row, step], step


def _seen(tokens: Tokens, step: Numbers, facts: Fitted) -> Float[Tensor, "batch length channels"]:
    """One-hot tokens, and the share of the steps that were taken."""
    share = (step / facts.steps).to(torch.float32)[:, None, None].expand(-1, tokens.shape[1], 1)
    return torch.cat((functional.one_hot(tokens, facts.size).float(), share), dim=-1)


def save_value(value: FittedValue, folder: Path | str) -> None:
    save_oracle(Ensemble([value.network]), Path(folder))
    write_json(Path(folder) / FILE, asdict(value.fitted))


def load_value(folder: Path | str, process: Process | None = None, inner: Any = None) -> FittedValue:
    """process, inner: of the model and the sampler that it is for, None: not checked.

    Raises:
        ValueError: no value was saved there, or one of other tokens or steps.
    """
    if not (Path(folder) / FILE).is_file():
        raise ValueError(
            f"value={str(folder)!r}: the folder holds no {FILE}; a value is learned and kept by `sepo sample "
            "--guidance svdd --guidance_kwargs.value learned --guidance_kwargs.value_kwargs.folder FOLDER`."
        )
    found = Fitted(**read_json(Path(folder) / FILE))
    if process is not None and process.size != found.size:
        raise ValueError(
            f"value={str(folder)!r} was learned of {found.size} token ids, and the model has {process.size}."
        )
    if inner is not None and inner.steps != found.steps:
        raise ValueError(
            f"value={str(folder)!r} was learned along {found.steps} steps, and the sampler takes {inner.steps}: choose "
            f"{found.steps}, or learn another."
        )
    network: Any = load_oracle(folder).members[0]
    return FittedValue(network, found)

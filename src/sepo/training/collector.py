r"""Collecting: prompts -> canvas -> rollout -> rewards -> returns -> advantages -> experience.

    return = sum of weighted rewards - beta log(p / p_ref)(path)

then centred, then scaled; with a critic, what is still to come less the value of the state. The log-ratio is taken at
all states of the path, once: the policy's part is the rollout's own, the reference is read there. With it in the return
the gradient is that of E[R] - beta KL(path law || reference's), whose optimum for one token per step and a consistent
reference is p_ref(x) exp(R(x) / beta) / Z.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from sepo.diffusion.canvas import Canvas
from sepo.diffusion.denoiser import Denoiser, evaluating
from sepo.diffusion.likelihood import path_log_prob
from sepo.diffusion.rollout import MaskedPath, Rollout
from sepo.diffusion.views import Reading, Views
from sepo.objectives import Advantage, Credit, Objective
from sepo.objectives.advantages import mean
from sepo.objectives.baselines import MOST_FEATURES, revealed_tokens
from sepo.objectives.returns import whole
from sepo.ops import Chance
from sepo.record import concatenate
from sepo.rewards import RewardError, Rewards, Scores, reward_metrics
from sepo.samplers import KernelSampler, Sampler, has_density, roll, transitions_log_prob
from sepo.training.crediting import ByCritic
from sepo.training.elites import Elites, Replay, around, explorer, learned_again, require_law
from sepo.training.experience import Experience, rollout_reading
from sepo.training.guidance import Asked, OfTokens, led_by, require_populations
from sepo.training.kl_control import KLControl
from sepo.training.prompts import Prompts, as_messages, completion_ids
from sepo.training.reference import Reference
from sepo.training.rows import Row, columns_of

ROLLOUT, VIEWS, SEARCH, REPLAY = 0, 1, 1_000_001, 1_000_002
"""Purposes of a group's generators: the rollout, the views of iteration i (VIEWS + i), what is searched around elites,
and which of these are learned again in iteration i (REPLAY + i)."""


def alone(values: Tensor) -> Tensor:
    """Gathering over one process."""
    return values


@dataclass(frozen=True)
class Collected:
    """One collection of this process. Rows of a group are consecutive."""

    groups: list[int]
    rollout: Rollout
    prompts: list[Any]
    completions: list[Any]
    scores: Scores
    returns: Tensor
    credit: Credit
    metrics: dict[str, float]


@dataclass(frozen=True)
class Collector:
    """gather: a tensor of all processes, in order of rank; group: sequences per prompt; precision: the context in which
    networks run here, so that policy and reference are read in the precision of the loss (bf16) and rewards are not;
    critic: makes the credit in place of the advantage's comparison; replay: how elites are learned again and searched
    around, None: neither; guided: draws rollouts in place of the sampler, which is the one inside it.
    """

    policy: Denoiser
    sampler: Sampler
    objective: Objective
    advantage: Advantage
    rewards: Rewards
    prompts: Prompts
    seed: int
    group: int
    control: KLControl = field(default_factory=lambda: KLControl(0.0))
    critic: ByCritic | None = None
    reference: Reference | None = None
    replay: Replay | None = None
    elites: Elites = field(default_factory=lambda: Elites(0))
    guided: Sampler | None = None
    asked: Asked = field(default_factory=Asked)
    gather: Callable[[Tensor], Tensor] = field(default=alone)
    precision: Callable[[], AbstractContextManager[Any]] = field(default=nullcontext)

    def require_comparison(self, groups: int, micro: int) -> None:
        """
        Raises:
            ValueError: a collection of `groups` groups compares nothing with nothing, or micro-batches of `micro`
                sequences tear apart what the objective compares.
        """
        require_populations(self.guided, self.group)
        if self.replay is not None and self.prompts.conditional:
            raise ValueError(
                "replay keeps the best of all sequences, and those of different prompts cannot be compared: leave "
                "replay_kwargs out, or train without prompts."
            )
        if self.replay is not None:
            require_law(self.policy, self.replay)
        together = self.objective.together
        if micro % together or (self.prompts.conditional and self.group % together):
            raise ValueError(
                f"per_device_train_batch_size={micro}, num_generations={self.group}: the objective compares {together} "
                "sequences of a group with each other in one micro-batch; make both multiples of that."
            )
        size = self.group if self.prompts.conditional else self.group * groups
        if size == 1 and self.advantage.baseline is mean:
            raise ValueError(
                f"num_generations={self.group}: a sequence alone has nothing to be compared with, so that its "
                "advantage is 0. Draw at least 2 per prompt (without prompts: per collection), or choose "
                "baseline='none'."
            )

    def collect(self, rows: Sequence[Row], groups: Sequence[int], trainer_state: Any = None) -> Collected:
        """`rows` one per group; each becomes `group` sequences.

        Raises:
            RewardError: a reward failed, or returned what is not a reward.
        """
        rows = [row for row in rows for _ in range(self.group)]
        canvas = self._canvas(rows).to(self.policy.device)
        chance = Chance.seeded(self.seed, groups, self.group, self.policy.device, ROLLOUT)
        with self.precision():
            rollout = roll(self._drawing(rows, canvas), self.policy, canvas, chance)
        prompts, completions, scores = self._scored(rows, rollout, trainer_state)
        per_step = self.log_ratio(rollout)
        reward = scores.total.to(per_step)
        returns = whole(reward, per_step, self.control.beta)
        credit = self._credit(rollout, reward, per_step, returns)
        metrics = self._metrics(rollout, scores, credit.log_ratio, returns[:, 0])
        if self.replay is not None:
            metrics |= self._remember(self.replay, rollout, scores, groups)
        return Collected(list(groups), rollout, prompts, completions, scores, returns[:, 0], credit, metrics)

    def _drawing(self, rows: Sequence[Row], canvas: Canvas) -> Sampler:
        if self.guided is None:
            return self.sampler
        return led_by(self.guided, OfTokens(self.rewards, self.prompts, rows, canvas), self.asked)

    @property
    def _drawn_by(self) -> Sampler:
        return self.sampler if self.guided is None else self.guided

    def _scored(self, rows: Sequence[Row], rollout: Rollout, trainer_state: Any) -> tuple[list[Any], list[Any], Scores]:
        """Prompts, completions, and what the rewards say of them."""
        self.asked.sequences += len(rows)
        prompts = self.prompts.prompts(rows)
        completions = as_messages(prompts, self.prompts.completions(rollout))
        scores = self.rewards(prompts, completions, completion_ids(rollout), columns_of(rows), trainer_state)
        return prompts, completions, scores

    def _remember(self, how: Replay, rollout: Rollout, scores: Scores, groups: Sequence[int]) -> dict[str, float]:
        """The elites hear of a collection, and of what is found around them."""
        device = rollout.x0.device
        self.elites.hear(self.gather(rollout.x0), self.gather(scores.total.to(device)))
        found: dict[str, float] = {}
        if how.search and len(self.elites):
            chance = Chance.seeded(self.seed, [groups[0]], how.search, self.policy.device, SEARCH)
            free = rollout.canvas.free[:1].expand(how.search, -1)
            canvas, policy = around(self.elites, how, free, chance), explorer(self.policy, how)
            with self.precision():
                near = roll(self.sampler, policy, canvas, chance)
            near = replace(near, canvas=replace(canvas, free=free))
            total = self._scored([{}] * how.search, near, None)[2].total.to(device)
            self.elites.hear(self.gather(near.x0), self.gather(total))
            found["search/reward"] = self.gather(total).nanmean().item()
        if len(self.elites):
            found |= {"elites/best": float(self.elites.reward[0]), "elites/mean": float(self.elites.reward.mean())}
        return found

    def _credit(self, rollout: Rollout, reward: Tensor, per_step: Tensor, returns: Tensor) -> Credit:
        log_ratio = per_step.sum(1)
        if self.critic is None:
            return Credit(self._advantages(returns, rollout), reward, log_ratio)
        price = self.control.beta * per_step
        with self.precision(), evaluating(self.policy.network):
            return self.critic(self.policy, rollout, reward, price, log_ratio, self.gather)

    def _canvas(self, rows: Sequence[Row]) -> Canvas:
        """As wide on all processes: what a group draws must not depend on the process that holds the longest row."""
        canvas = self.prompts.canvas(rows)
        width = int(self.gather(torch.tensor([canvas.tokens.shape[1]], device=self.policy.device)).max())
        return canvas if width == canvas.tokens.shape[1] else self.prompts.canvas(rows, width)

    @torch.no_grad()
    def log_ratio(self, rollout: Rollout) -> Tensor:
        """log(p / p_ref) of each step of each path, [batch steps] in nats; zeros without a reference, or where paths
        have no density."""
        own = rollout.log_prob
        if self.reference is None or not has_density(self._drawn_by, approximate=True):
            return torch.zeros_like(rollout.per_step(own))
        if not self.sampler.exact_density:
            with self.precision(), evaluating(self.policy.network):
                own = self._path_log_prob(self.policy, rollout)
        with self.precision(), self.reference.policy(self.policy) as reference:
            return rollout.per_step(own) - rollout.per_step(self._path_log_prob(reference, rollout))

    def _path_log_prob(self, policy: Denoiser, rollout: Rollout) -> Tensor:
        if isinstance(rollout, MaskedPath):
            return path_log_prob(policy, rollout)
        if not isinstance(self.sampler, KernelSampler):
            raise ValueError(
                f"{type(self.sampler).__name__} has no kernel, so the reference cannot rate its steps: use a sampler "
                "with a kernel, such as ancestral, or beta=0."
            )
        return transitions_log_prob(self.sampler, policy, rollout)

    @torch.no_grad()
    def experiences(self, collected: Collected, iteration: int, micro: int, stale: bool) -> list[Experience]:
        """Micro-batches of one pass over a collection.

        `stale`: the policy changes before they are used, so old is read now, unless it is the rollout's own; that of an
        approximate sampler is of other laws.
        """
        chance = Chance.seeded(self.seed, collected.groups, self.group, self.policy.device, VIEWS + iteration)
        views = self.objective.views(collected.rollout, self.policy.process, chance)
        old = None
        if self.objective.reads_rollout and not self.objective.old_whole and self._drawn_by.exact_density:
            old = rollout_reading(collected.rollout, views)
        elif stale or self.objective.old_whole:
            slices = (views[start : start + micro] for start in range(0, len(views), micro))
            with self.precision(), evaluating(self.policy.network):
                old = concatenate([self._old(part) for part in slices])
        whole = Experience(collected.credit.at(views.step), views, old, self._replayed(collected, iteration))
        return [whole[start : start + micro] for start in range(0, len(whole), micro)]

    def _replayed(self, collected: Collected, iteration: int) -> Views | None:
        if self.replay is None or not self.replay.coef or not len(self.elites):
            return None
        chance = Chance.seeded(self.seed, collected.groups, self.group, self.policy.device, REPLAY + iteration)
        return learned_again(self.elites, self.replay, collected.rollout.canvas.free, self.policy.process, chance)

    def _old(self, views: Views) -> Reading:
        found = self.objective.read(self.policy, views)
        return found if self.objective.old_whole else Reading(found.log_prob, value=found.value)

    def _advantages(self, returns: Tensor, rollout: Rollout) -> Tensor:
        """Groups of a prompt stay on a process; without prompts all sequences of all processes are one group."""
        everyone = self.gather(self._as_long_everywhere(returns))
        size = self.group if self.prompts.conditional else len(everyone)
        advantage = self.advantage(everyone, size, self._features(rollout, everyone.shape[1]))
        if len(everyone) == len(returns):
            return advantage
        rank = torch.distributed.get_rank()
        return advantage[rank * len(returns) : (rank + 1) * len(returns), : returns.shape[1]]

    def _features(self, rollout: Rollout, steps: int) -> Tensor | None:
        """What is there before each step, of all processes, if the advantage asks for it and the alphabet is small."""
        process = self.policy.process
        if self.advantage.states is None or process.size * rollout.x0.shape[1] > MOST_FEATURES:
            return None
        return self.gather(revealed_tokens(rollout, steps, process))

    def _as_long_everywhere(self, returns: Tensor) -> Tensor:
        """Paths have as many steps as the longest of this process; what stands behind the last one is never used."""
        longest = int(self.gather(torch.tensor([returns.shape[1]], device=returns.device)).max())
        return torch.cat([returns, returns[:, -1:].expand(-1, longest - returns.shape[1])], dim=1)

    def _metrics(self, rollout: Rollout, scores: Scores, log_ratio: Tensor, returns: Tensor) -> dict[str, float]:
        """Over all processes, with TRL's names where the meaning is the same."""
        total = self.gather(scores.total.to(log_ratio))
        size = self.group if self.prompts.conditional else len(total)
        spread = torch.stack([_deviation(group) for group in total.reshape(-1, size)])
        free = rollout.canvas.free.sum(1).float()
        rewards = reward_metrics(scores.names, self.gather(scores.per_function.to(log_ratio)), total)
        ours = {
            "reward": total.nanmean().item(),
            "reward_std": _deviation(total).item(),
            "frac_reward_zero_std": (spread < 1e-8).float().mean().item(),
            "return": self.gather(returns).nanmean().item(),
            "completions/mean_length": self.gather(free).mean().item(),
        }
        rated = has_density(self._drawn_by, approximate=True)
        if self.reference is not None and rated:
            ours["kl"] = self.gather(log_ratio).mean().item()
        if self.control.target is not None:
            ours["beta"] = self.control.beta
        if rated:
            own = rollout.per_step(rollout.log_prob).sum(1)
            ours["entropy"] = self.gather(-own / free).mean().item()
        if taken := scores.metrics.keys() & ours.keys():
            raise RewardError(f"log_metric({min(taken)!r}, ...): the trainer logs that name itself; choose another.")
        return scores.metrics | rewards | ours


def _deviation(values: Tensor) -> Tensor:
    """Standard deviation (n - 1) of those that are not NaN; 0 where there are fewer than two."""
    known = values[~values.isnan()]
    return known.std() if len(known) > 1 else values.new_zeros(())

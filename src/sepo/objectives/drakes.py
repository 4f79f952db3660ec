r"""DRAKES: fine-tuning by a reward that has a gradient (arXiv 2410.13643), through soft states of the masked process.

The last steps of a rollout are taken again, softly. With m_i the share of the mask at site i of the state x, in a step
from t to s that reveals with probability a,

    x'_i = softmax((log [a p(. | x)_i, mask: 1 - a] + Gumbel) / temperature),   x_i <- (1 - m_i) x_i + m_i x'_i

and after the last step the letters become one-hot, straight-through, so that the gradient of

    minimise  -reward(one-hot) + alpha sum over these steps of sum_i m_i a KL(p(. | x)_i || p_ref(. | x)_i)

reaches every prediction through the states that it made. The sum is the path KL of these steps, over MASKED sites; the
released code sums over sites that are known, where it is 0. Gumbel noise makes the law right and hard states
(`hard=True`) would be draws of the sampler itself; what is biased is the slope.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sepo.diffusion.denoiser import Denoiser
from sepo.diffusion.likelihood import state_views
from sepo.diffusion.process import Absorbing, Process
from sepo.diffusion.rollout import MaskedPath, Rollout
from sepo.diffusion.soft import Mixture, soft_log_posterior, straight_through
from sepo.diffusion.views import Reading, Views
from sepo.objectives.advantages import Advantage, none, unit
from sepo.objectives.algorithm import Algorithm, Paper
from sepo.objectives.base import Loss, Objective
from sepo.objectives.credit import Credit
from sepo.objectives.readings.base import require_absorbing
from sepo.ops import Chance, divergence
from sepo.typing import Float, PerSequence

Reward = Callable[[Mixture], PerSequence]
"""reward(one-hot [batch length vocab], the mask's column 0) -> [batch], larger is better, with a gradient."""


@dataclass(frozen=True, eq=False)
class Unrolled(Reading):
    """states, laws: before each soft step, and the law of clean tokens there; hazard: m a; end: the one-hot tokens."""

    states: Float[Tensor, "batch steps length vocab"] | None = None
    laws: Float[Tensor, "batch steps length vocab"] | None = None
    hazard: Float[Tensor, "batch steps length"] | None = None
    end: Float[Tensor, "batch length vocab"] | None = None


@dataclass(frozen=True)
class Backpropagation(Objective):
    """reward: with a gradient; truncate: soft steps, the last of the rollout; alpha: reward per nat of their path KL.

    hard: states are one-hot in value at every step, not at the end alone.
    """

    reward: Reward
    truncate: int = 50
    alpha: float = 0.001
    temperature: float = 1.0
    hard: bool = False

    def __post_init__(self) -> None:
        if self.truncate < 1 or self.temperature <= 0 or self.alpha < 0:
            raise ValueError(
                f"truncate={self.truncate}, temperature={self.temperature}, alpha={self.alpha}: needs at least 1 step, "
                "a temperature above 0 and no negative price; the published values are 50, 1 and 0.001."
            )

    @property
    def uses_reference(self) -> bool:  # type: ignore[override]
        return self.alpha > 0

    @property
    def reads_rollout(self) -> bool:
        """No old policy enters the loss."""
        return True

    def views(self, rollout: Rollout, process: Process, chance: Chance) -> Views:
        """One view: the state of the rollout before its last steps, and the uniform numbers of these."""
        path, process = _on_a_grid(rollout, process)
        steps = min(self.truncate, path.steps)
        first = torch.full((len(path.x0), 1), path.steps - steps, device=path.x0.device)
        views, masked = state_views(path, first, process), path.masked(first).float()
        draws = chance.uniform(1, steps, path.x0.shape[1], process.size)
        return replace(views, weight=masked, hazard=masked, draws=draws)

    def read(self, policy: Denoiser, views: Views, whole: bool = False) -> Reading:
        """One evaluation per soft step."""
        if whole:
            raise ValueError(
                "DRAKES prices the path KL of its own soft states: leave path_kl_coef and entropy_coef 0 and set its "
                "alpha."
            )
        process = require_absorbing(policy.process)
        assert views.draws is not None
        state = torch.nn.functional.one_hot(views.xt[:, 0], process.size).float()
        states, laws, hazards = [], [], []
        for step in range(views.draws.shape[2]):
            law = soft_log_posterior(policy, state, _time(views, step), views.attend)
            reveal = _reveal(process, views, step)
            states.append(state)
            laws.append(law)
            hazards.append(state[..., process.mask] * reveal[:, None])
            state = self._moved(state, law, reveal, views.draws[:, 0, step], process)
        end = straight_through(state * _letters(process, state.device))
        nothing = torch.zeros(views.weight.shape, device=state.device)
        return Unrolled(
            nothing, states=torch.stack(states, 1), laws=torch.stack(laws, 1), hazard=torch.stack(hazards, 1), end=end
        )

    def read_reference(self, reference: Denoiser, views: Views, new: Reading, whole: bool = False) -> Reading:
        """At the soft states of the new policy, with the gradient that reaches these through the reference."""
        assert isinstance(new, Unrolled) and new.states is not None
        with torch.enable_grad():
            laws = [
                soft_log_posterior(reference, state, _time(views, step), views.attend)
                for step, state in enumerate(new.states.unbind(1))
            ]
        return Unrolled(torch.zeros_like(new.log_prob), laws=torch.stack(laws, 1))

    def loss(self, new: Reading, old: Reading, reference: Reading | None, credit: Credit, views: Views) -> Loss:
        assert isinstance(new, Unrolled) and new.end is not None
        reward = self.reward(new.end)
        if reward.shape != new.end.shape[:1]:
            raise ValueError(
                f"The differentiable reward returned shape {tuple(reward.shape)} for {len(new.end)} sequences: return "
                "one number per sequence."
            )
        value, metrics = -reward.mean(), {"soft_reward": reward.detach().mean()}
        if self.alpha:
            if not isinstance(reference, Unrolled):
                raise ValueError(f"alpha={self.alpha} prices the KL to a reference, and there is none: set alpha=0.")
            assert new.laws is not None and new.hazard is not None and reference.laws is not None
            kl = (new.hazard * divergence(new.laws, reference.laws)).sum((1, 2)).mean()
            value, metrics = value + self.alpha * kl, metrics | {"kl_term": kl.detach()}
        return Loss(value, metrics)

    def _moved(self, state: Mixture, law: Mixture, reveal: PerSequence, uniform: Tensor, process: Absorbing) -> Mixture:
        stay = (1 - reveal).log()[:, None, None]
        log_moved = torch.where(_letters(process, law.device), law + reveal.log()[:, None, None], stay)
        gumbel = -(-uniform.clamp_min(1e-30).log()).log()
        drawn = ((log_moved + gumbel.to(law.dtype)) / self.temperature).softmax(-1)
        masked = state[..., process.mask].unsqueeze(-1)
        return (1 - masked) * state + masked * (straight_through(drawn) if self.hard else drawn)


@dataclass(frozen=True)
class Drakes(Algorithm):
    """Given to the trainer as an object, SEPOTrainer(..., algorithm=Drakes(reward)): no string names a function. On the
    command line `--algorithm drakes` takes the reward of a task that offers one (`Task.soft_reward`).

    The reward functions of the trainer are logged, and have no part in the loss.
    """

    paper = Paper(
        "Fine-Tuning Discrete Diffusion Models via Reward Optimization with Applications to DNA and Protein Design",
        "2410.13643",
    )
    reward: Reward
    truncate: int = 50
    alpha: float = 0.001
    temperature: float = 1.0
    hard: bool = False
    sampler = "ancestral"

    @property
    def return_beta(self) -> float:
        """The loss does not look at returns."""
        return 0.0

    def objective(self) -> Objective:
        return Backpropagation(self.reward, self.truncate, self.alpha, self.temperature, self.hard)

    def advantage(self) -> Advantage:
        return Advantage(none, unit)


def _time(views: Views, step: int) -> PerSequence:
    """The equal steps of a rollout from the time of the view to 0."""
    assert views.draws is not None
    return views.t[:, 0] * (1 - step / views.draws.shape[2])


def _reveal(process: Absorbing, views: Views, step: int) -> PerSequence:
    """The last step draws from the posterior itself, as that of the sampler does."""
    assert views.draws is not None
    if step == views.draws.shape[2] - 1:
        return torch.ones_like(views.t[:, 0])
    return process.reveal_probability(_time(views, step), _time(views, step + 1))


def _letters(process: Absorbing, device: torch.device) -> Tensor:
    """Every id but the mask."""
    return torch.arange(process.size, device=device) != process.mask


def _on_a_grid(rollout: Rollout, process: Process) -> tuple[MaskedPath, Absorbing]:
    process = require_absorbing(process)
    if isinstance(rollout, MaskedPath):
        grid = 1 - torch.arange(rollout.steps, device=rollout.times.device) / rollout.steps
        if torch.allclose(rollout.times, grid.expand_as(rollout.times).to(rollout.times), atol=1e-6):
            return rollout, process
    raise ValueError(
        "DRAKES takes the last steps of a rollout again, which needs a grid of equal steps of time from 1 to 0; choose "
        "sampler='ancestral'."
    )

r"""The first-order tilt of a step by a reward with a gradient.

With x the state as one-hot tokens and v(x) = r(x0_hat(x)) the reward of the clean tokens that the network expects
there, as probabilities,

    q_i(y)  proportional to  k_i(y | x) exp(gamma (dv/dx_(i,y) - dv/dx_(i,x_i)))

(Simple Guidance Mechanisms for Discrete Diffusion Models, arXiv 2412.10193, the first-order form of D-CBG). Of masks

    x0_hat_i = x_(i,mask) p(x0_i | x) + x_i without its mask

is what a soft state expects, and only masked sites are tilted: what a network says at a known site has no meaning. For
a reward that is a sum over sites, w_i(x0_i), and p held fixed (`through_network=False`), q_i(y) is k_i(y) exp(gamma
w_i(y)) among tokens, whatever the network: the last step is the exact tilt of the inner sampler's. Where sites are
independent p is fixed indeed, all steps are exact, and the law is the optimum p exp(r / beta) / Z at gamma = 1 / beta.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from sepo.diffusion.denoiser import Denoiser
from sepo.diffusion.meaning import Posterior
from sepo.diffusion.process import Absorbing
from sepo.diffusion.soft import Mixture, soft_tokens
from sepo.record import Record
from sepo.samplers.base import KernelSampler, Steps
from sepo.samplers.guided.hearing import Heard, hear
from sepo.samplers.guided.scoring import SoftReward, score
from sepo.typing import Float, LogProbs, Sites, Time, Tokens


@dataclass(frozen=True, eq=False)
class Tilted(Record):
    """law: of the inner step; tilted: of the guided one; value: r(x0_hat); t: when the network was read."""

    law: LogProbs
    tilted: LogProbs
    value: Float[Tensor, " batch"]
    t: Time


@dataclass(frozen=True)
class Tilt:
    """gamma: nats per unit of reward, 0: none; through_network: the gradient follows the prediction at other sites.

    Then the network must name its input embeddings, and the uniform process must have a posterior's logits.
    """

    reward: SoftReward
    gamma: float
    through_network: bool = True

    def __call__(
        self,
        inner: KernelSampler,
        policy: Denoiser,
        xt: Tokens,
        step: Steps,
        attend: Sites | None,
        free: Sites | None = None,
    ) -> Tilted:
        """One evaluation per row, with gradient if it goes through the network; one call of the reward per row.

        free: what the reward sees at other sites is the token there; None: all.

        Raises:
            ValueError: the reward has no gradient, or the process none through soft tokens.
        """
        self._check(policy)
        state = torch.nn.functional.one_hot(xt, policy.process.size).to(torch.get_default_dtype()).requires_grad_()
        soft = soft_tokens(policy.network, state) if self.through_network else nullcontext()
        with torch.set_grad_enabled(self.through_network), soft:
            heard = hear(inner, policy, xt, step, attend)
        with torch.enable_grad():
            expected = expected_tokens(policy, heard, state)
            if free is not None:
                expected = torch.where(free.unsqueeze(-1), expected, state)
            value = score(self.reward, expected)
            if not value.requires_grad:
                raise ValueError("The reward has no gradient: compute it from the soft tokens by torch alone.")
            (slope,) = torch.autograd.grad(value.sum(), state)
        law = heard.law.detach()
        return Tilted(law, self._tilted(policy, law, xt, slope), value.detach(), heard.t)

    def _tilted(self, policy: Denoiser, law: LogProbs, xt: Tokens, slope: Tensor) -> LogProbs:
        shift = self.gamma * (slope - slope.gather(-1, xt.unsqueeze(-1)))
        if isinstance(policy.process, Absorbing):
            shift = shift.masked_fill((xt != policy.process.mask).unsqueeze(-1), 0.0)
        return (law.log() + shift).softmax(-1)

    def _check(self, policy: Denoiser) -> None:
        if isinstance(policy.process, Absorbing):
            return
        if not self.through_network or not isinstance(policy.meaning, Posterior):
            raise ValueError(
                f"Guidance of {type(policy.process).__name__} follows the network's posterior, but through_network is "
                f"{self.through_network} and its numbers mean {type(policy.meaning).__name__}: set "
                "through_network=True with a posterior, or use SMC or SVDD, which need no gradient."
            )


def expected_tokens(policy: Denoiser, heard: Heard, state: Mixture) -> Mixture:
    """x0_hat of a soft state, the mask's column 0."""
    posterior = heard.log_posterior.exp().to(state.dtype)
    process = policy.process
    if not isinstance(process, Absorbing):
        return posterior
    letters = state.index_fill(-1, torch.tensor([process.mask], device=state.device), 0.0)
    return letters + state[..., process.mask].unsqueeze(-1) * posterior

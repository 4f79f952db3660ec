r"""q(y) of every sequence y by self-normalised importance sampling over all sequences, as the SEPO paper means it.

    q(y) = sum_z q(y | z) q(z),   z_m ~ q(z | y),   w_m = q(z_m) / q(z_m | y),   q(y) ~ sum_m w_m q(y | z_m) / sum_m w_m

(Fine-Tuning Discrete Diffusion Models with Policy Gradient Methods, arXiv 2502.01384, section 3.2.) q(z) may be known
up to a constant, the same for all z and y. Where the proposal is the posterior of the kernel, w_m q(y | z_m) = q(y) for
every m by Bayes' rule, so that all of the error is in the normaliser. A proposal that reaches some sequences only
normalises over these: over the candidates of one site the limit is q(y | N_i), which `neighbours.LocalSoftmax` has in
closed form.

Matrices over all sequences, so for small worlds: it is here to be compared with.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sepo.ops import draw
from sepo.typing import Float

LogLaw = Float[Tensor, " sequences"]
Kernel = Float[Tensor, "sequences sequences"]
"""From row to column: probabilities, a law per row."""


@dataclass(frozen=True)
class AllSequences:
    """kernel: q(y | z) in row z, column y; proposal: q(z | y) in row y, column z."""

    kernel: Kernel
    proposal: Kernel

    def __post_init__(self) -> None:
        for name, matrix in (("kernel", self.kernel), ("proposal", self.proposal)):
            off = float((matrix.sum(1) - 1).abs().max())
            if off > 1e-4 or float(matrix.min()) < 0:
                raise ValueError(
                    f"A row of the {name} sums to 1 within {off:.2g} and holds {float(matrix.min()):.2g}: rows must be "
                    "laws; divide each by its sum."
                )

    def exact(self, log_q: LogLaw) -> LogLaw:
        """sum_z q(y | z) q(z) of the normalised q: the limit where the proposal reaches every z."""
        return log_q.softmax(0) @ self.kernel

    def __call__(self, log_q: LogLaw, uniform: Float[Tensor, "sequences draws"]) -> LogLaw:
        """The estimate for each y from as many draws as there are uniform numbers; log_q up to a constant."""
        y = torch.arange(len(log_q), device=log_q.device).unsqueeze(1)
        z = draw(self.proposal.unsqueeze(1).expand(-1, uniform.shape[1], -1), uniform)
        share = (log_q[z] - self.proposal[y, z].log()).softmax(1)
        return (share * self.kernel[z, y]).sum(1)

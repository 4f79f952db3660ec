"""What a nat of path KL costs in the return: a constant, or held so that the KL stays near a target.

    beta <- beta (1 + gain clip(kl / target - 1, -0.2, 0.2))        after every collection

(Fine-Tuning Language Models from Human Preferences, arXiv 1909.08593, section 2.2.)
"""

from __future__ import annotations

from dataclasses import dataclass, field

MOST = 0.2


@dataclass(eq=False)
class KLControl:
    """beta: reward per nat, as it is now; target: nats of path KL, None for a constant beta; gain: K in the paper."""

    beta: float
    target: float | None = None
    gain: float = 0.1
    start: float = field(init=False)

    def __post_init__(self) -> None:
        self.start = self.beta
        if self.target is None:
            return
        if self.target <= 0 or not 0 < self.gain < 1 / MOST:
            raise ValueError(
                f"target_kl={self.target}, kl_gain={self.gain}: needs a target above 0 nats and a gain above 0 and "
                f"below {1 / MOST:g}."
            )
        if self.beta <= 0:
            raise ValueError(
                f"target_kl={self.target} multiplies beta, and beta={self.beta} stays what it is; set beta above 0, "
                "such as 0.02, to start from."
            )

    def hear(self, kl: float) -> None:
        """kl: the path KL of a collection, in nats, over all processes. To be called after its returns were made."""
        if self.target is not None:
            self.beta *= 1 + self.gain * min(max(kl / self.target - 1, -MOST), MOST)

    def restart(self) -> None:
        """Back to where a run starts."""
        self.beta = self.start

    def restore(self, beta: float) -> None:
        """Where a saved run was; a constant is what the options say now."""
        if self.target is not None:
            self.beta = beta

"""A critic on a network of any family: actor and critic are one module, so that DDP, optimizer and checkpoint see one.

The critic is a small perceptron on the hidden states that enter the actor's output embeddings: it costs no evaluation,
and is read at the sites that pass the head. It is float32 whatever the actor is.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Generator, Tensor, nn
from transformers import PretrainedConfig

from sepo.diffusion.denoiser import Call, Denoiser
from sepo.diffusion.valued import Valued
from sepo.models.family import innermost
from sepo.ops import rows
from sepo.typing import Float, Int, Sites, Time, Tokens

CRITIC = "critic.safetensors"
UNITS = 128


class Critic(nn.Module):
    """Hidden states -> a value per site, in the unit of the reward; 0 everywhere at first."""

    def __init__(self, width: int, units: int = UNITS, seed: int = 0) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.inner, self.outer = nn.Linear(width, units), nn.Linear(units, 1)
        generator = Generator().manual_seed(seed)
        with torch.no_grad():
            self.inner.weight.normal_(std=width**-0.5, generator=generator)
            for silent in (self.inner.bias, self.outer.weight, self.outer.bias):
                silent.zero_()

    def forward(self, hidden: Float[Tensor, "batch sites width"]) -> Float[Tensor, "batch sites"]:
        with torch.autocast(hidden.device.type, enabled=False):
            inner = nn.functional.gelu(self.inner(self.norm(hidden.to(self.inner.weight.dtype))))
            return self.outer(inner).squeeze(-1)


class ActorWithCritic(nn.Module):
    """(logits, values) of one forward. actor: the network as it was, PEFT around it or not; call: of its family."""

    def __init__(self, actor: nn.Module, call: Call, critic: Critic) -> None:
        super().__init__()
        self.actor, self.call, self.critic = actor, call, critic

    def forward(
        self,
        xt: Tokens,
        sigma: Time,
        attend: Sites | None = None,
        sites: Int[Tensor, "batch k"] | None = None,
    ) -> tuple[Tensor, Float[Tensor, "batch sites"]]:
        everywhere = sites is None or sites.shape[1] == xt.shape[1]
        head, entered = output_head(self.actor), []
        handle = head.register_forward_pre_hook(lambda module, inputs: entered.append(inputs[0]))
        try:
            logits = self.call(self.actor, xt, sigma, attend, None if everywhere else sites)
        finally:
            handle.remove()
        hidden = entered[0].transpose(1, 2) if _channels_first(head) else entered[0]
        if sites is None:
            return logits, self.critic(hidden)
        if everywhere:
            logits = rows(logits, sites)
        if everywhere or hidden.shape[1] == xt.shape[1]:  # a stock head behind which the sites were picked
            hidden = rows(hidden, sites)
        return logits, self.critic(hidden)

    # ------------------------------------------------------------------ what transformers.Trainer asks of a network
    @property
    def config(self) -> PretrainedConfig:
        return innermost(self.actor).config

    @property
    def _keys_to_ignore_on_save(self) -> Any:
        return innermost(self.actor)._keys_to_ignore_on_save

    def tie_weights(self) -> None:
        innermost(self.actor).tie_weights()

    def activation_checkpointing_enable(self, **options: Any) -> None:
        innermost(self.actor).activation_checkpointing_enable(**options)

    def gradient_checkpointing_enable(self, **options: Any) -> None:
        """The name by which earlier releases of transformers ask."""
        innermost(self.actor).gradient_checkpointing_enable(**options)


def with_critic(policy: Denoiser, seed: int = 0) -> Denoiser:
    """The policy on its network with a new critic, which may be trained together.

    Raises:
        ValueError: the network shows no output embeddings.
    """
    head: Any = output_head(policy.network)
    critic = Critic(head.weight.shape[1], seed=seed).to(policy.device)
    critic.train(policy.network.training)
    actor = ActorWithCritic(policy.network, policy.call, critic)
    return replace(policy, network=actor, call=Valued(), cached_call=None)


def output_head(network: nn.Module) -> nn.Module:
    """The layer that makes logits of hidden states."""
    head: Any = innermost(network).get_output_embeddings()
    if head is None:
        raise ValueError(
            f"{type(innermost(network)).__name__} has no get_output_embeddings(), behind which the critic would read: "
            "add that method to the network, or train without use_critic."
        )
    return head


def critic_of(network: nn.Module) -> Critic | None:
    """The critic in the network or in what is wrapped around it; None without one."""
    return next((module for module in network.modules() if isinstance(module, Critic)), None)


def save_critic(network: nn.Module, folder: Path) -> None:
    """Writes the critic beside the network, if there is one."""
    critic = critic_of(network)
    if critic is not None:
        save_file({name: tensor.contiguous() for name, tensor in critic.state_dict().items()}, folder / CRITIC)


def load_critic(network: nn.Module, folder: Path) -> None:
    """
    Raises:
        ValueError: the folder holds no critic, or one of another network.
    """
    critic = critic_of(network)
    if critic is None:
        return
    if not (folder / CRITIC).is_file():
        raise ValueError(
            f"{folder} holds no {CRITIC}, because the run that saved it had no critic: resume with use_critic as it "
            "was."
        )
    try:
        critic.load_state_dict(load_file(folder / CRITIC))
    except RuntimeError as error:
        raise ValueError(
            f"{folder / CRITIC} does not fit this network ({error}); restore the file that was saved beside it."
        ) from error


def _channels_first(head: Any) -> bool:
    """Whether the head is a convolution of torch's, whose hidden states are [batch width length]."""
    return head.weight.dim() == 3 and not getattr(head, "channels_last", False)

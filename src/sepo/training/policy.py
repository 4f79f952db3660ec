"""From what a user names to a policy and its reference: loading, adapters, dropout, and what is refused."""

from __future__ import annotations

import sys
from typing import Any

from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging

from sepo.diffusion.denoiser import Denoiser
from sepo.diffusion.valued import Valued
from sepo.models import FAMILIES, denoiser_for, family_of, innermost, load
from sepo.models.adapters import adapter_around
from sepo.models.critic import with_critic
from sepo.objectives import Objective
from sepo.rewards import RewardCalls, Rewards
from sepo.samplers import Blocks, Sampler
from sepo.training.config import SEPOConfig
from sepo.training.prompts import Prompts, Text, prompts_for
from sepo.training.reference import AdaptersOff, Frozen, Reference, Synced
from sepo.training.rows import Rows

logger = logging.get_logger(__name__)


def as_policy(
    model: str | Denoiser | PreTrainedModel,
    processing_class: PreTrainedTokenizerBase | None,
    args: SEPOConfig,
    peft_config: Any = None,
) -> Denoiser:
    """A denoiser on the network to be trained.

    Raises:
        ValueError: the model cannot be read, or PEFT is missing.
    """
    if isinstance(model, Denoiser):
        policy = model
    elif isinstance(model, str):
        options: Any = args.model_init_kwargs or {}
        policy = load(model, **options)
    else:
        policy = denoiser_for(model, processing_class)
    if peft_config is not None:
        policy = _adapted(policy, args, peft_config)
    if args.disable_dropout:
        freeze_dropout(policy.network)
    if args.use_critic and not isinstance(policy.call, Valued):
        policy = with_critic(policy, args.seed)
    if not in_a_family(policy):
        logger.warning(
            f"{type(policy.network).__name__} belongs to no family of sepo.models, so that its checkpoints hold the "
            "weights alone and sepo.load cannot open them."
        )
    return policy


def reference_for(policy: Denoiser, args: SEPOConfig, objective: Objective, beta: float) -> Reference | None:
    """None if nothing is compared with a reference: beta, in the return, is 0 and no term of the loss uses it."""
    if beta == 0 and not objective.uses_reference:
        return None
    adapters = adapter_around(policy.network) is not None
    if args.sync_ref_model:
        if adapters:
            raise ValueError(
                "sync_ref_model=True needs weights of its own, but with adapters the reference is the base model; drop "
                "one."
            )
        return Synced.of(policy.network, args.ref_model_mixup_alpha, args.ref_model_sync_steps)
    return AdaptersOff() if adapters else Frozen.of(policy.network)


def rewards_for(reward_funcs: Any, args: SEPOConfig, processing_classes: Any = None) -> Rewards:
    """The rewards, called as the options say; `Rewards` itself passes through."""
    if isinstance(reward_funcs, Rewards):
        return reward_funcs
    calls = RewardCalls(
        timeout=args.reward_timeout,
        retries=args.reward_retries,
        non_finite_as_none=args.non_finite_rewards == "none",
    )
    return Rewards.of(reward_funcs, args.reward_weights, processing_classes, calls)


def freeze_dropout(network: nn.Module) -> None:
    """Sets every dropout probability to 0, so that the rollout and the loss see the same policy.

    Attention of transformers keeps its probability as a number under a name such as `attention_dropout`.
    """
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        for name, value in vars(module).items():
            if "dropout" in name and isinstance(value, float):
                setattr(module, name, 0.0)


def lengths_of(policy: Denoiser) -> range:
    """The lengths of the sequences that the network takes; that of its canvas at most, where it has one."""
    try:
        allowed = FAMILIES[family_of(policy.network)].lengths(innermost(policy.network).config)
    except ValueError:  # a network of the user's own
        allowed = range(1, sys.maxsize)
    if policy.length is None:
        return allowed
    return range(allowed.start, min(allowed.stop, policy.length + sum(map(len, policy.frame)) + 1))


def prompts_through(
    policy: Denoiser,
    sampler: Sampler,
    rows: Rows | None,
    tokenizer: PreTrainedTokenizerBase | None,
    completion_length: int,
    length: int | None = None,
) -> Prompts:
    """The prompts of a dataset for this model; length: of a canvas without prompts, None: the model's own.

    Raises:
        ValueError: the rows do not fit; the network fills canvases of another length (DiffusionGemma).
    """
    taken = lengths_of(policy)
    prompts = prompts_for(rows, tokenizer, completion_length, length or policy.length, taken, policy.frame)
    if isinstance(prompts, Text):
        if any(policy.frame):
            raise ValueError(
                "A sequence of this model has a frame, behind which nothing stands: give a prompt with mask tokens "
                "where something is to be filled in, or rows of 'tokens' and 'free'."
            )
        _require_canvas(policy, sampler, completion_length)
    return prompts


def _require_canvas(policy: Denoiser, sampler: Sampler, completion_length: int) -> None:
    network = next((each for each in policy.network.modules() if isinstance(each, PreTrainedModel)), None)
    canvas = None if network is None else getattr(network.config, "canvas_length", None)
    blocks = sampler.blocks if isinstance(sampler, Blocks) else 1
    if canvas is not None and completion_length != blocks * canvas:
        raise ValueError(
            f"max_completion_length={completion_length}: the network fills canvases of {canvas} tokens; choose "
            f"{blocks * canvas}, set network.config.canvas_length, or sample block by block with sepo.samplers.Blocks."
        )


def in_a_family(policy: Denoiser) -> bool:
    """Whether the network is of a family, so that its checkpoints get a card and `sepo.load` opens them."""
    try:
        family_of(policy.network)
    except ValueError:
        return False
    return True


def _adapted(policy: Denoiser, args: SEPOConfig, peft_config: Any) -> Denoiser:
    try:
        from peft import get_peft_model
    except ImportError as error:
        raise ValueError("peft_config needs the package peft: pip install peft (extra `peft`).") from error
    if args.gradient_checkpointing:
        policy.network.enable_input_require_grads()  # type: ignore[operator]
    return policy.on(get_peft_model(policy.network, peft_config))  # type: ignore[arg-type]

"""From what a user names to a policy and its reference: loading, adapters, dropout, and what is refused."""

from __future__ import annotations

from typing import Any

from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from sepo.diffusion.denoiser import Denoiser
from sepo.models import denoiser_for, load
from sepo.objectives import Objective
from sepo.rewards import RewardCalls, Rewards
from sepo.training.config import SEPOConfig
from sepo.training.reference import AdaptersOff, Frozen, Reference, Synced


def as_policy(
    model: str | Denoiser | PreTrainedModel,
    processing_class: PreTrainedTokenizerBase | None,
    args: SEPOConfig,
    peft_config: Any = None,
) -> Denoiser:
    """A denoiser on the network to be trained.

    Raises:
        ValueError: the model cannot be read, PEFT is missing, or the run is one that is not supported (FSDP,
            DeepSpeed).
    """
    _refuse_sharding(args)
    if isinstance(model, Denoiser):
        policy = model
    elif isinstance(model, str):
        options: Any = args.model_init_kwargs or {}
        policy = load(model, **options)
    else:
        policy = denoiser_for(model, processing_class)
    if peft_config is None:
        return policy
    try:
        from peft import get_peft_model
    except ImportError as error:
        raise ValueError('peft_config needs the package peft: pip install "sepo[peft]".') from error
    if args.gradient_checkpointing:
        policy.network.enable_input_require_grads()  # type: ignore[operator]
    return policy.on(get_peft_model(policy.network, peft_config))  # type: ignore[arg-type]


def reference_for(policy: Denoiser, args: SEPOConfig, objective: Objective) -> Reference | None:
    """None if nothing is compared with a reference: beta = 0 and no term of the loss uses it."""
    if args.beta == 0 and not objective.uses_reference:
        return None
    adapters = _has_adapters(policy.network)
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
    """Sets every dropout probability to 0, so that the rollout and the loss see the same policy."""
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0


def _has_adapters(network: nn.Module) -> bool:
    try:
        from peft import PeftModel
    except ImportError:
        return False
    return isinstance(network, PeftModel)


def _refuse_sharding(args: SEPOConfig) -> None:
    """Rollouts run the network outside the trainer's forward, which sharded parameters do not allow."""
    for option, given in (("fsdp", bool(args.fsdp)), ("deepspeed", args.deepspeed is not None)):
        if given:
            raise ValueError(
                f"{option} is not supported: rollouts run on the unsharded network. Use DDP (accelerate launch) and "
                "LoRA."
            )

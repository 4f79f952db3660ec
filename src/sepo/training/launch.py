"""How a run may be launched: one process per device, each with the whole network."""

from __future__ import annotations

import os

from transformers import TrainingArguments

SWITCHED_ON = ("1", "true", "yes", "on")


def require_unsharded(args: TrainingArguments) -> None:
    """
    Raises:
        ValueError: FSDP or DeepSpeed is asked for, by the options or by `accelerate launch`.
    """
    for option, given in (("fsdp", args.fsdp), ("deepspeed", args.deepspeed)):
        if given or os.environ.get(f"ACCELERATE_USE_{option.upper()}", "").lower() in SWITCHED_ON:
            raise ValueError(
                f"{option} is not supported: rollouts and averages need the unsharded network on every device. Use DDP "
                "(accelerate launch --multi_gpu) and, for large networks, LoRA (peft_config)."
            )


def require_one_device(args: TrainingArguments) -> None:
    """
    Raises:
        ValueError: the process would copy the network to several devices in every step (DataParallel).
    """
    if args.n_gpu > 1:
        raise ValueError(
            f"This process sees {args.n_gpu} devices, and to use all of them from one process (DataParallel) is not "
            "supported. Start one process per device with `accelerate launch`, or choose one with "
            "CUDA_VISIBLE_DEVICES=0."
        )

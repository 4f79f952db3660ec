"""sepo design at toy size, as words and in Python."""

from __future__ import annotations

from sepo.cli.design_options import Design

COLUMNS = ("--sequence", "seq", "--activity", "act", "--second", "second", "--group", "chrom")
OWN_GENERATOR = (
    *("--num", "8", "--epochs", "2", "--members", "2", "--hidden_size", "8", "--output", "out"),
    *("--finetune.max_steps", "4", "--finetune.per_device_train_batch_size", "8", "--finetune.sampling_steps", "4"),
    *("--finetune.judged", "16", "--finetune.use_cpu", "true", "--finetune.logging_steps", "1"),
)
QUICK = (
    *OWN_GENERATOR,
    *("--pretrain.max_steps", "4", "--pretrain.per_device_train_batch_size", "32", "--pretrain.use_cpu", "true"),
    *("--pretrain.logging_steps", "1"),
)
SFT = ("--sft", "0.5", "--sft_kwargs.max_steps", "4", "--sft_kwargs.use_cpu", "true")


def small(table: str, **changed) -> Design:
    """QUICK and COLUMNS, in Python."""
    shared = {"max_steps": 4, "use_cpu": True, "logging_steps": 1}
    options = {
        **{"sequence": "seq", "activity": "act", "second": "second", "group": "chrom", "output": "out"},
        **{"epochs": 1, "members": 1, "hidden_size": 8, "stacks": 1},
        "pretrain": shared | {"per_device_train_batch_size": 32},
        "finetune": shared | {"per_device_train_batch_size": 8, "sampling_steps": 4, "judged": 8},
    }
    return Design(table, **(options | changed))

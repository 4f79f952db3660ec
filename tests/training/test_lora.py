"""LoRA: the adapters alone are trained, saved and opened, and the network without them is the reference."""

from __future__ import annotations

import pytest
import torch

from sepo.diffusion.denoiser import evaluating
from tests.training.toys import lines, same, trainer, weights


def lora(**options):
    peft = pytest.importorskip("peft")
    return peft.LoraConfig(target_modules=["qkv", "out"], r=4, **options)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_lora_trains_the_adapters_alone_with_the_adapters_off_as_reference(tmp_path, checkpointing):
    settings = lora(lora_dropout=0.1)
    run = trainer(
        tmp_path, beta=0.05, peft_config=settings, learning_rate=0.05, gradient_checkpointing=checkpointing, max_steps=3
    )
    before = weights(run.model)
    run.train()
    changed = {name for name, weight in run.model.state_dict().items() if not torch.equal(weight, before[name])}
    assert changed and all("lora_" in name for name in changed)
    logged = lines(tmp_path)
    assert logged[0]["kl"] == pytest.approx(0, abs=1e-5) and abs(logged[2]["kl"]) > 1e-4


def test_adapters_are_saved_resumed_and_opened(tmp_path):
    from sepo import load

    options = {"beta": 0.05, "learning_rate": 0.05, "save_strategy": "steps", "save_steps": 2}
    whole = trainer(tmp_path / "whole", peft_config=lora(), **options)
    whole.train()
    again = trainer(tmp_path / "whole", peft_config=lora(), **options)
    again.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-2"))
    assert same(weights(again.model), weights(whole.model))
    opened = load(tmp_path / "whole" / "checkpoint-4")
    noise = torch.tensor([[4, 1, 4, 4, 2, 4]])
    with torch.no_grad(), evaluating(opened.network), evaluating(whole.policy.network):
        assert torch.allclose(opened.logits(noise, torch.ones(1)), whole.policy.logits(noise, torch.ones(1)), atol=1e-6)

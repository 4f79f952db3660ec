"""The reference: frozen, the adapters off, or following."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from sepo.diffusion.canvas import Canvas
from sepo.diffusion.likelihood import path_log_prob
from sepo.diffusion.process import Absorbing
from sepo.objectives import SEPO, PathKL, Total
from sepo.ops import Chance
from sepo.samplers import FirstHitting, roll
from sepo.training import AdaptersOff, Apart, Frozen, Synced
from sepo.training.policy import reference_for
from tests.training.toys import LENGTH, config, policy, raised, same, trainer, weights

NOISE = torch.tensor([[4, 1, 4, 4, 2, 4]])


def shaken(network: torch.nn.Module) -> None:
    with torch.no_grad():
        for weight in network.parameters():
            if weight.requires_grad:
                weight.add_(0.1)


def read(made) -> torch.Tensor:
    with torch.no_grad():
        return made.log_posterior(NOISE, torch.ones(1))


def adapted(model):
    peft = pytest.importorskip("peft")
    settings = peft.LoraConfig(target_modules=["qkv", "out"], r=2, init_lora_weights=False)
    return model.on(peft.get_peft_model(model.network, settings))


def test_a_frozen_reference_stays_where_the_policy_was():
    model = policy()
    before, reference = read(model), Frozen.of(model.network)
    shaken(model.network)
    with reference.policy(model) as other:
        assert torch.equal(read(other), before)
        assert not torch.equal(read(model), before)
        assert not any(weight.requires_grad for weight in other.network.parameters())
        assert other.meter is model.meter  # its evaluations count


def test_with_adapters_off_the_policy_is_its_own_reference():
    bare = policy()
    before = read(bare)
    model = adapted(policy())
    assert not torch.equal(read(model), before)
    with AdaptersOff().policy(model) as reference:
        assert torch.equal(read(reference), before)
        assert reference.network is model.network
    assert not torch.equal(read(model), before)


def test_a_synced_reference_moves_its_share_every_so_many_steps():
    model = policy()
    reference = Synced.of(model.network, alpha=0.25, steps=2)
    start = weights(reference.network)
    shaken(model.network)
    reference.follow(model.network, step=1)
    assert same(weights(reference.network), start)
    reference.follow(model.network, step=2)
    for name, weight in reference.network.state_dict().items():
        assert torch.allclose(weight, start[name] + 0.25 * 0.1, atol=1e-6)


def test_a_reference_apart_is_read_through_its_own_lens():
    model, other = replace(policy(), banned=(1, 2)), replace(policy(), banned=(1,))
    shaken(other.network)
    before, reference = read(other), Apart.of(other, model)
    shaken(model.network)
    with reference.policy(model) as read_there:
        assert torch.equal(read(read_there), before) and read_there.meter is model.meter
        assert not any(weight.requires_grad for weight in read_there.network.parameters())
    assert read(model)[0, 0, 2] == -torch.inf and before[0, 0, 2] > -torch.inf
    said = raised(ValueError, lambda: Apart.of(replace(other, banned=(0, 1)), model))
    assert "never draws the ids [0] and the policy may" in said
    other = replace(other, process=Absorbing(9, 8))
    assert "the reference knows 9 ids" in raised(ValueError, lambda: Apart.of(other, model))


def test_the_kl_is_to_the_reference_that_is_given(tmp_path):
    start, other = policy(length=LENGTH), policy(length=LENGTH, seed=1)
    run = trainer(tmp_path, start, beta=0.1, reference=Apart.of(other, start))
    rollout = roll(FirstHitting(), start, Canvas.blank(3, LENGTH), Chance.of(0, 3))
    ratio = run.collector.log_ratio(rollout).sum(1)
    torch.testing.assert_close(ratio, (rollout.log_prob - path_log_prob(other, rollout)).sum(1))
    assert ratio.abs().min() > 1e-3


def test_a_reference_apart_needs_no_critic_and_is_told_in_the_card(tmp_path):
    start, other = policy(length=LENGTH), policy(length=LENGTH, seed=1)
    options = {"use_critic": True, "path_kl_coef": 0.1, "max_steps": 1, "num_generations": 1}
    run = trainer(tmp_path, start, reference=Apart.of(other, start), **options)
    run.train()
    assert run.method.options["reference"] == "Apart()"


def test_the_options_choose_the_reference(tmp_path):
    model, plain = policy(), SEPO()
    assert reference_for(model, config(tmp_path), plain, 0.0) is None
    assert isinstance(reference_for(model, config(tmp_path), plain, 0.1), Frozen)
    assert isinstance(reference_for(model, config(tmp_path), Total(plain, ((0.1, PathKL()),)), 0.0), Frozen)
    assert isinstance(reference_for(model, config(tmp_path, sync_ref_model=True), plain, 0.1), Synced)
    assert isinstance(reference_for(adapted(model), config(tmp_path), plain, 0.1), AdaptersOff)


def test_a_synced_reference_beside_adapters_is_refused(tmp_path):
    options = config(tmp_path, beta=0.1, sync_ref_model=True)
    assert "sync_ref_model=True" in raised(ValueError, lambda: reference_for(adapted(policy()), options, SEPO(), 0.1))


@pytest.mark.parametrize(("alpha", "steps"), [(0.0, 1), (1.5, 1), (0.5, 0)])
def test_impossible_syncing_is_refused(alpha, steps):
    assert f"ref_model_mixup_alpha={alpha}" in raised(ValueError, lambda: Synced.of(policy().network, alpha, steps))


def test_a_synced_reference_is_saved_and_restored(tmp_path):
    options = {
        "beta": 0.1,
        "sync_ref_model": True,
        "ref_model_sync_steps": 2,
        "save_strategy": "steps",
        "save_steps": 4,
    }
    run = trainer(tmp_path, **options)
    start = weights(run.reference.network)
    run.train()
    assert not same(weights(run.reference.network), start)
    assert not same(weights(run.reference.network), weights(run.model))
    again = trainer(tmp_path, **options)
    again.progress.restore(tmp_path / "checkpoint-4", 0)
    assert same(weights(again.reference.network), weights(run.reference.network))


def test_a_checkpoint_without_a_moving_reference_is_not_resumed_with_one(tmp_path):
    trainer(tmp_path, beta=0.1, save_strategy="steps", save_steps=4).train()
    run = trainer(tmp_path, beta=0.1, sync_ref_model=True)
    assert "reference.safetensors" in raised(ValueError, lambda: run.train(resume_from_checkpoint=True))


@pytest.mark.parametrize(("alpha", "steps"), [(1.0, 2), (0.25, 1)], ids=["renewed", "moving average"])
def test_a_reference_follows_by_copies_or_as_a_moving_average(tmp_path, alpha, steps):
    run = trainer(
        tmp_path,
        beta=0.1,
        sync_ref_model=True,
        ref_model_mixup_alpha=alpha,
        ref_model_sync_steps=steps,
        max_steps=3,
        save_strategy="steps",
        save_steps=1,
    )
    expected = weights(run.model)
    run.train()
    for step in (1, 2, 3):
        new = load_file(tmp_path / f"checkpoint-{step}" / "model.safetensors")
        if step % steps == 0:
            expected = {name: weight.lerp(new[name], alpha) for name, weight in expected.items()}
        held = load_file(tmp_path / f"checkpoint-{step}" / "reference.safetensors")
        for name, weight in expected.items():
            torch.testing.assert_close(held[name], weight)

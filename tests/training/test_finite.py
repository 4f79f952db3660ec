"""What is not finite stops the run before the step, and its inputs are kept."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest
import torch
from safetensors.torch import load_file
from transformers import TrainerControl, TrainerState

from sepo.objectives import SEPO
from sepo.objectives.base import Loss
from sepo.training import NonFiniteError
from sepo.training.experience import restored
from sepo.training.finite import FiniteGuard
from tests.training.toys import config, policy, pretrainer, raised, same, trainer, weights


@dataclass(frozen=True)
class Spoiled(SEPO):
    """In micro-batch `at` the loss, or only its gradient, is not a number."""

    at: int = 0
    gradient: bool = False
    calls: list[int] = field(default_factory=list)

    def loss(self, new, old, reference, advantage, views) -> Loss:
        made = super().loss(new, old, reference, advantage, views)
        self.calls.append(len(self.calls))
        if self.calls[-1] != self.at:
            return made
        zero = (new.log_prob.sum() * 0).sqrt()  # its slope is 0 times infinity
        return replace(made, value=made.value + zero if self.gradient else made.value * torch.nan)


@pytest.mark.parametrize("gradient", [False, True])
@pytest.mark.parametrize("clipping", [1.0, 0.0])
def test_the_run_stops_with_its_inputs_saved_and_the_weights_as_they_were(tmp_path, gradient, clipping):
    options = {"gradient_accumulation_steps": 2, "per_device_train_batch_size": 4, "max_grad_norm": clipping}
    run = trainer(tmp_path, objective=Spoiled(at=4, gradient=gradient), **options)
    before = []
    run.stream.on_collected = lambda collected: before.append(weights(run.model))
    message = raised(NonFiniteError, run.train)
    assert message.startswith(
        f"The {'gradient norm' if gradient else 'loss'} is nan in step 3; the step was not taken."
    )
    assert len(before) == 3 and same(weights(run.model), before[-1])
    [saved] = tmp_path.glob("non_finite_step_2_rank_0.safetensors")
    assert str(saved) in message and "learning_rate" in message
    stored = load_file(saved)
    assert {name.split(".")[0] for name in stored} == ({"0", "1"} if gradient else {"0"})
    again = restored({name.removeprefix("0."): tensor for name, tensor in stored.items() if name.startswith("0.")})
    assert len(again) == 4 and torch.isfinite(run.objective.read(run.policy, again.views).log_prob).all()


def test_the_loss_of_a_micro_batch_is_not_waited_for(tmp_path, monkeypatch):
    """Many of them make a step, and the device computes on meanwhile."""
    tuned, pretrained = trainer(tmp_path / "tuned"), pretrainer(tmp_path / "pretrained")
    batch = next(iter(tuned.stream))
    rows = pretrained.collate([pretrained.train_dataset[index] for index in range(4)])
    for run, inputs in ((tuned, batch), (pretrained, rows)):
        with monkeypatch.context() as patched:
            for wait in ("item", "tolist", "__float__"):
                patched.setattr(torch.Tensor, wait, lambda *_: pytest.fail("the device is waited for"))
            run.compute_loss(run.model, inputs)
        assert len(run.guard.losses) == 1
        run.guard.require_losses(0, 0)
        assert not run.guard.losses


def test_a_gradient_that_overflows_while_it_is_summed_is_not_finite(tmp_path):
    @dataclass(frozen=True)
    class Huge(SEPO):
        def loss(self, new, old, reference, advantage, views) -> Loss:
            made = super().loss(new, old, reference, advantage, views)
            return replace(made, value=made.value * 1e30)

    message = raised(NonFiniteError, trainer(tmp_path, objective=Huge()).train)
    assert "gradient norm is inf in step 1" in message


def test_weights_that_are_not_finite_are_found_before_a_reward_is_asked(tmp_path):
    model = policy()
    with torch.no_grad():
        model.network.head.weight[0, 0] = torch.nan
    asked = []
    run = trainer(tmp_path, model, reward=lambda completions, **columns: asked.append(1))
    message = raised(ValueError, run.train)
    assert "no finite probabilities in 8 of 8 sequences" in message and not asked


def test_pretraining_stops_too(tmp_path):
    run = pretrainer(tmp_path)
    with torch.no_grad():
        run.policy.network.norm.bias[0] = torch.inf
    message = raised(NonFiniteError, run.train)
    assert message.startswith("The loss is nan in step 1")
    [saved] = tmp_path.glob("non_finite_step_0_rank_0.safetensors")
    assert load_file(saved)["0.tokens"].shape == (8, 6)


def test_the_guard_of_fp16_leaves_gradients_to_the_loss_scaler(tmp_path):
    network = policy().network
    for weight in network.parameters():
        weight.grad = torch.full_like(weight, torch.inf)
    guard = FiniteGuard(network, tmp_path, "")
    args = config(tmp_path)

    step = [args, TrainerState(), TrainerControl()]
    args.fp16 = True
    guard.on_pre_optimizer_step(*step)
    args.fp16 = False
    assert "gradient norm" in raised(NonFiniteError, lambda: guard.on_pre_optimizer_step(*step))

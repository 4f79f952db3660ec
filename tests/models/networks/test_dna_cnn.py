"""The DNA network against the published checkpoint's keys and shapes, and against its formula."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from sepo.models.networks.dna_cnn import DnaCnn, DnaCnnConfig
from tests.models.toys import shaken

ONCE = {
    "linear.weight": (128, 5, 9),
    "linear.bias": (128,),
    "time_embedder.0.W": (64,),
    "time_embedder.1.weight": (128, 128),
    "time_embedder.1.bias": (128,),
    "final_conv.0.weight": (128, 128, 1),
    "final_conv.0.bias": (128,),
    "final_conv.2.weight": (5, 128, 1),
    "final_conv.2.bias": (5,),
}
PER_LAYER = {
    "convs.{}.weight": (128, 128, 9),
    "convs.{}.bias": (128,),
    "time_layers.{}.dense.weight": (128, 128),
    "time_layers.{}.dense.bias": (128,),
    "norms.{}.weight": (128,),
    "norms.{}.bias": (128,),
}


def small(time_conditioning: bool = False) -> DnaCnn:
    config = DnaCnnConfig(5, length=20, hidden_size=8, stacks=2, time_conditioning=time_conditioning)
    return shaken(lambda: DnaCnn(config))  # type: ignore[return-value]


def letters(batch: int = 2, length: int = 20) -> Tensor:
    return torch.randint(5, (batch, length), generator=torch.Generator().manual_seed(0))


def test_keys_shapes_and_number_of_parameters_are_those_of_the_published_checkpoint() -> None:
    network = DnaCnn(DnaCnnConfig())
    layers = {name.format(i): shape for i in range(20) for name, shape in PER_LAYER.items()}
    assert {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()} == ONCE | layers
    assert len(network.state_dict()) == 129
    assert sum(weight.numel() for weight in network.parameters()) == 3_326_661
    assert [name for name, weight in network.named_parameters() if not weight.requires_grad] == ["time_embedder.0.W"]


def test_the_dilations_are_each_repeated_stack_after_stack() -> None:
    expected = [1] * 8 + [4] * 4 + [16] * 4 + [64] * 4
    convolutions = DnaCnn(DnaCnnConfig()).convs
    assert [layer.dilation[0] for layer in convolutions] == expected  # type: ignore[union-attr,index]
    assert [layer.padding[0] for layer in convolutions] == [4 * each for each in expected]  # type: ignore[index]


@torch.no_grad()
def test_the_logits_follow_the_published_formula() -> None:
    network, xt, t = small(time_conditioning=True), letters(), torch.tensor([0.3, 0.8])
    weights = network.state_dict()

    def convolve(x: Tensor, name: str, dilation: int = 1) -> Tensor:
        weight = weights[f"{name}.weight"]
        padding = dilation * (weight.shape[-1] // 2)
        return functional.conv1d(x, weight, weights[f"{name}.bias"], padding=padding, dilation=dilation)

    def linear(x: Tensor, name: str) -> Tensor:
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    features = convolve(torch.eye(5)[xt].transpose(1, 2), "linear").relu()
    angle = 2 * torch.pi * t[:, None] * weights["time_embedder.0.W"]
    time = linear(torch.cat((angle.sin(), angle.cos()), -1), "time_embedder.1").relu()
    for i, dilation in enumerate([1, 1, 1, 1, 4, 4, 16, 16, 64, 64]):
        h = (features + linear(time, f"time_layers.{i}.dense")[:, :, None]).transpose(1, 2)
        h = functional.layer_norm(h, (8,), weights[f"norms.{i}.weight"], weights[f"norms.{i}.bias"]).transpose(1, 2)
        features = features + convolve(h, f"convs.{i}", dilation).relu()
    expected = convolve(convolve(features, "final_conv.0").relu(), "final_conv.2").transpose(1, 2)
    assert torch.allclose(network(xt, t), expected, atol=1e-4)


@torch.no_grad()
def test_the_time_is_zero_whatever_sigma_says_as_published() -> None:
    network = small()
    assert torch.equal(network(letters(), torch.tensor([0.3, 5.0])), network(letters()))
    assert torch.equal(network(letters()), small(time_conditioning=True)(letters(), torch.zeros(2)))


def test_one_hot_floats_give_the_logits_of_their_ids_and_carry_a_gradient() -> None:
    network = small()
    hot = functional.one_hot(letters(), 5).float().requires_grad_()
    logits = network(hot, sites=torch.tensor([[4], [7]]))
    assert torch.equal(logits, network(letters(), sites=torch.tensor([[4], [7]])))
    logits[0].sum().backward()
    assert hot.grad is not None
    assert hot.grad[0].abs().sum() > 0
    assert hot.grad[1].abs().sum() == 0


def test_a_time_conditioned_network_asks_for_sigma() -> None:
    with pytest.raises(ValueError, match=r"sigma=None.*give sigma"):
        small(time_conditioning=True)(letters())


def test_an_odd_width_is_refused() -> None:
    with pytest.raises(ValueError, match=r"hidden_size=7.*even"):
        DnaCnnConfig(hidden_size=7)

"""Soft tokens through every family: values of the hard ones, gradients of the mixture."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.functional import one_hot

from sepo.diffusion.soft import input_embeddings, soft_log_posterior, soft_tokens, straight_through
from sepo.evaluation.worlds import random_table
from sepo.models import FAMILIES
from tests.models.toys import LENGTH, MASK, NETWORKS, SIZE, denoiser, half_masked
from tests.worlds import SMALL

T = torch.full((3,), 0.5)
each_family = pytest.mark.parametrize("family", NETWORKS)


def hard() -> torch.Tensor:
    return one_hot(half_masked(), SIZE).float()


@each_family
@torch.no_grad()
def test_a_one_hot_mixture_has_the_values_of_its_ids(family: str) -> None:
    lens = denoiser(family)
    expected = lens.logits(half_masked(), T).log_softmax(-1)
    torch.testing.assert_close(soft_log_posterior(lens, hard(), T), expected, rtol=1e-5, atol=1e-5)
    assert torch.equal(lens.logits(half_masked(), T).log_softmax(-1), expected), "the hook must be gone"


@each_family
@torch.no_grad()
def test_padding_stays_padding(family: str) -> None:
    if not FAMILIES[family].padding:
        return
    lens = denoiser(family)
    attend = torch.arange(LENGTH).expand(3, -1) < torch.tensor([[LENGTH], [8], [5]])
    expected, found = lens.logits(half_masked(), T, attend), soft_log_posterior(lens, hard(), T, attend)
    torch.testing.assert_close(found[attend], expected.log_softmax(-1)[attend], rtol=1e-5, atol=1e-5)


@each_family
def test_the_gradient_of_the_mixture_is_that_of_finite_differences(family: str) -> None:
    lens = denoiser(family)
    lens.network.double()
    drawn = torch.randn(3, LENGTH, SIZE, generator=torch.Generator().manual_seed(0), dtype=torch.double)
    mixture, way = drawn.softmax(-1), drawn.flip(0)

    def value(shares: torch.Tensor) -> torch.Tensor:
        return soft_log_posterior(lens, shares, T)[..., :MASK].square().sum()

    slope = torch.autograd.grad(value(start := mixture.clone().requires_grad_()), start)[0]
    with torch.no_grad():
        difference = (value(mixture + 1e-4 * way) - value(mixture - 1e-4 * way)) / 2e-4
    torch.testing.assert_close((slope * way).sum(), difference, rtol=2e-2, atol=1e-2)  # float32 norms, kinks of relu
    assert (slope.abs().amax((1, 2)) > 0).all()


@each_family
def test_the_weights_learn_through_soft_tokens_as_through_hard_ones(family: str) -> None:
    lens = denoiser(family)
    weights = [weight for weight in lens.network.parameters() if weight.requires_grad]
    found = []
    for law in (soft_log_posterior(lens, hard(), T), lens.logits(half_masked(), T).log_softmax(-1)):
        found.append(torch.autograd.grad(law[..., :MASK].square().sum(), weights, allow_unused=True))
    for soft, plain in zip(*found, strict=True):
        assert (soft is None) == (plain is None)
        if soft is not None and plain is not None:
            torch.testing.assert_close(soft, plain, rtol=1e-3, atol=1e-3 * float(plain.abs().max()))


def test_adapters_and_other_wrappers_are_looked_through() -> None:
    peft = pytest.importorskip("peft")
    lens = denoiser("transformer")
    inner = input_embeddings(lens.network)
    assert input_embeddings(nn.Sequential(lens.network)) is inner
    adapted = lens.on(peft.get_peft_model(lens.network, peft.LoraConfig(r=2, target_modules=["qkv"])))
    expected = lens.logits(half_masked(), T).log_softmax(-1)
    torch.testing.assert_close(soft_log_posterior(adapted, hard(), T), expected, rtol=1e-5, atol=1e-5)


def test_straight_through_is_hard_in_value_and_soft_in_slope() -> None:
    logits = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    value = straight_through(logits.softmax(-1))
    torch.testing.assert_close(value, one_hot(logits.argmax(-1), 4).float())
    weight = torch.arange(4.0)
    hard_slope = torch.autograd.grad((value * weight).sum(), logits)[0]
    torch.testing.assert_close(hard_slope, torch.autograd.grad((logits.softmax(-1) * weight).sum(), logits)[0])


def test_networks_without_embeddings_and_ids_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match=r"Table has no get_input_embeddings"):
        soft_log_posterior(random_table(SMALL), torch.ones(1, 3, 4) / 4, torch.ones(1))
    for family in ("transformer", "dna_cnn"):
        lens = denoiser(family)
        with soft_tokens(lens.network, hard()), pytest.raises(ValueError, match=r"\(1, 12\).*\(3, 12\)"):
            lens.logits(half_masked()[:1], T[:1])


def test_a_network_of_your_own_with_a_convolution_reads_mixtures_channels_first() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv1d(SIZE, SIZE, 1)

        def get_input_embeddings(self) -> nn.Module:
            return self.first

        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            return self.first(one_hot(ids, SIZE).float().transpose(1, 2)).transpose(1, 2)

    own, drawn = Own(), torch.randn(3, LENGTH, SIZE, generator=torch.Generator().manual_seed(0)).softmax(-1)
    with soft_tokens(own, drawn) as ids:
        found = own(ids)
    torch.testing.assert_close(found, drawn @ own.first.weight[:, :, 0].T + own.first.bias)

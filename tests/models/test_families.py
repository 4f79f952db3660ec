"""The lens on a network: recognised, checked, and found inside whatever is wrapped around it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel
from transformers import BertConfig, BertModel

from sepo.diffusion.meaning import Score
from sepo.diffusion.process import Absorbing, Uniform
from sepo.models import FAMILIES, as_denoiser, family_of, innermost
from sepo.models.networks.dit import DiT, DiTConfig
from tests.models.toys import LENGTH, MASK, NETWORKS, SIZE, transformer

each_network = pytest.mark.parametrize("family", NETWORKS)


@each_network
def test_a_process_of_another_size_is_refused_with_both_sizes(family: str) -> None:
    with pytest.raises(ValueError, match=f"size=9 token ids.*vocab_size={SIZE}"):
        as_denoiser(NETWORKS[family](), Absorbing(9, mask=8))


@each_network
def test_an_unconditional_length_comes_from_the_configuration(family: str) -> None:
    expected = None if FAMILIES[family].stock is not None else LENGTH
    assert as_denoiser(NETWORKS[family](), Absorbing(SIZE, mask=MASK)).length == expected


def test_a_length_that_the_positions_do_not_reach_is_refused() -> None:
    with pytest.raises(ValueError, match="length=13 does not fit the network, which takes 1 to 12 tokens"):
        as_denoiser(transformer(), Absorbing(SIZE, mask=MASK), length=13)
    with pytest.raises(ValueError, match="length=11 does not fit the network, which takes 12 to 12 tokens"):
        as_denoiser(NETWORKS["grid"](), Uniform(SIZE), length=11)
    assert as_denoiser(transformer(), Absorbing(SIZE, mask=MASK), length=5).length == 5


def test_a_time_conditioned_network_is_not_time_free() -> None:
    config = DiTConfig(SIZE, LENGTH, 16, 8, num_hidden_layers=1, num_attention_heads=2, time_conditioning=True)
    assert not as_denoiser(DiT(config), Uniform(SIZE), Score()).time_free
    assert as_denoiser(NETWORKS["dit"](), Uniform(SIZE)).time_free


def test_a_network_is_found_inside_its_wrappers() -> None:
    network = transformer()
    wrapped = nn.Sequential(nn.Sequential(network))
    assert innermost(wrapped) is network
    assert family_of(wrapped) == "transformer"


def test_a_network_of_no_family_is_refused() -> None:
    encoder = BertModel(BertConfig(vocab_size=SIZE, hidden_size=16, num_hidden_layers=1, num_attention_heads=2))
    with pytest.raises(ValueError, match=r"BertModel belongs to no family.*grid, transformer, dit, dna_cnn, masked_lm"):
        family_of(encoder)
    with pytest.raises(ValueError, match="Linear holds no transformers PreTrainedModel"):
        as_denoiser(nn.Linear(2, 2), Uniform(2))


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[None]:
    """A process group of one."""
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/rendezvous", rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


@each_network
def test_a_network_in_ddp_gives_the_same_logits_and_gradients(family: str, alone: None) -> None:
    lens = as_denoiser(NETWORKS[family](), Absorbing(SIZE, mask=MASK))
    xt, t, sites = torch.full((1, LENGTH), MASK), torch.ones(1), torch.tensor([[3, 4]])
    lens.logits(xt, t, sites=sites)[..., :MASK].square().sum().backward()
    plain = [weight.grad for weight in lens.network.parameters()]
    lens.network.zero_grad()
    parallel = lens.on(DistributedDataParallel(lens.network))
    assert family_of(parallel.network) == family
    parallel.logits(xt, t, sites=sites)[..., :MASK].square().sum().backward()
    for before, weight in zip(plain, lens.network.parameters(), strict=True):
        assert before is None or torch.equal(before, weight.grad)  # type: ignore[arg-type]


def test_gradients_reach_every_trainable_weight_so_that_ddp_needs_no_search() -> None:
    for family in NETWORKS:
        lens = as_denoiser(NETWORKS[family](), Absorbing(SIZE, mask=MASK))
        lens.logits(torch.full((1, LENGTH), MASK), torch.ones(1))[..., :MASK].square().sum().backward()
        idle = [
            name for name, weight in lens.network.named_parameters() if weight.requires_grad and weight.grad is None
        ]
        assert idle == [], family

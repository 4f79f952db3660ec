"""The diffusion transformer against the published checkpoints' keys, shapes and sizes, and against its formula."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from sepo.models.networks.dit import DiT, DiTConfig
from tests.models.toys import shaken

SMALL = DiTConfig()
MEDIUM = DiTConfig(hidden_size=1024, num_hidden_layers=24, num_attention_heads=16)
BLOCK = {
    "norm1.weight": (768,),
    "attn_qkv.weight": (2304, 768),
    "attn_out.weight": (768, 768),
    "norm2.weight": (768,),
    "mlp.0.weight": (3072, 768),
    "mlp.0.bias": (3072,),
    "mlp.2.weight": (768, 3072),
    "mlp.2.bias": (768,),
    "adaLN_modulation.weight": (4608, 128),
    "adaLN_modulation.bias": (4608,),
}
AROUND = {
    "vocab_embed.embedding": (50258, 768),
    "sigma_map.mlp.0.weight": (128, 256),
    "sigma_map.mlp.0.bias": (128,),
    "sigma_map.mlp.2.weight": (128, 128),
    "sigma_map.mlp.2.bias": (128,),
    "rotary_emb.inv_freq": (32,),
    "output_layer.norm_final.weight": (768,),
    "output_layer.linear.weight": (50258, 768),
    "output_layer.linear.bias": (50258,),
    "output_layer.adaLN_modulation.weight": (1536, 128),
    "output_layer.adaLN_modulation.bias": (1536,),
}


def small(time_conditioning: bool = False, length: int = 8) -> DiT:
    config = DiTConfig(
        11,
        length,
        hidden_size=32,
        cond_dim=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        time_conditioning=time_conditioning,
    )
    return shaken(lambda: DiT(config))  # type: ignore[return-value]


@pytest.mark.parametrize(("config", "tensors", "parameters"), [(SMALL, 131, 169_627_218), (MEDIUM, 251, 424_477_010)])
def test_the_published_sizes_have_the_published_numbers_of_tensors_and_parameters(
    config: DiTConfig, tensors: int, parameters: int
) -> None:
    with torch.device("meta"):
        network = DiT(config)
    assert len(network.state_dict()) == tensors
    assert sum(weight.numel() for weight in network.parameters()) == parameters


def test_every_key_and_shape_is_that_of_the_small_published_checkpoints() -> None:
    with torch.device("meta"):
        network = DiT(SMALL)
    blocks = {f"blocks.{i}.{name}": shape for i in range(12) for name, shape in BLOCK.items()}
    assert {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()} == AROUND | blocks


def test_a_new_network_guesses_uniformly() -> None:
    network = DiT(DiTConfig(11, 8, hidden_size=32, cond_dim=8, num_hidden_layers=2, num_attention_heads=2))
    assert torch.equal(network(torch.arange(8)[None]), torch.zeros(1, 8, 11))


@torch.no_grad()
def test_the_logits_follow_the_published_formula() -> None:
    network = small(time_conditioning=True)
    xt, sigma = torch.tensor([[3, 1, 4, 1, 5, 9, 2, 6], [10, 10, 10, 0, 0, 7, 7, 10]]), torch.tensor([0.2, 5.0])
    assert torch.allclose(network(xt, sigma), written_out(network.state_dict(), xt, sigma), atol=1e-5)


@torch.no_grad()
def test_without_time_conditioning_sigma_is_zero() -> None:
    free, timed = small(), small(time_conditioning=True)
    xt = torch.arange(8)[None]
    assert torch.equal(free(xt, torch.tensor([3.0])), timed(xt, torch.zeros(1)))
    assert torch.equal(free(xt), timed(xt, torch.zeros(1)))
    assert not torch.allclose(timed(xt, torch.tensor([3.0])), timed(xt, torch.zeros(1)), atol=1e-3)


def test_a_time_conditioned_network_asks_for_sigma() -> None:
    with pytest.raises(ValueError, match=r"sigma=None.*give sigma"):
        small(time_conditioning=True)(torch.arange(8)[None])


def test_the_rotary_frequencies_stay_float32_whatever_the_weights_become() -> None:
    network = small()
    exact = network.rotary_emb.inv_freq.clone()
    assert torch.allclose(exact, 10_000.0 ** (-torch.arange(0, 16, 2) / 16))
    network.to(torch.bfloat16)
    assert network.dtype == torch.bfloat16
    assert torch.equal(network.rotary_emb.inv_freq, exact)


def test_the_rotary_frequencies_stay_float32_through_a_file(tmp_path) -> None:
    network = small().to(torch.bfloat16)
    exact = network.rotary_emb.inv_freq.clone()
    network.save_pretrained(tmp_path)
    loaded = DiT.from_pretrained(tmp_path)
    assert loaded.dtype == torch.bfloat16
    assert torch.equal(loaded.rotary_emb.inv_freq, exact)
    small().save_pretrained(tmp_path)
    assert torch.equal(DiT.from_pretrained(tmp_path, dtype=torch.bfloat16).rotary_emb.inv_freq, exact)


@torch.no_grad()
def test_the_dropout_can_be_switched_off_module_by_module() -> None:
    network = small().train()
    xt = torch.arange(8)[None]
    assert not torch.equal(network(xt), network(xt))
    for module in network.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    assert torch.equal(network(xt), copy.deepcopy(network).eval()(xt))


def test_heads_of_odd_width_are_refused() -> None:
    with pytest.raises(ValueError, match=r"hidden_size=30 with 4 heads.*multiple"):
        DiTConfig(hidden_size=30, num_attention_heads=4)


def written_out(weights: dict[str, Tensor], xt: Tensor, sigma: Tensor) -> Tensor:
    """The network as a plain sequence of equations: 2 blocks, width 32, 2 heads; rotation by complex numbers."""

    def norm(x: Tensor, name: str) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        return centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt() * weights[f"{name}.weight"]

    def linear(x: Tensor, name: str) -> Tensor:
        return x @ weights[f"{name}.weight"].T + weights.get(f"{name}.bias", torch.zeros(()))

    def rotated(x: Tensor) -> Tensor:
        pairs = torch.complex(x[..., :8], x[..., 8:])
        angles = torch.arange(8)[:, None] * 10_000 ** (-torch.arange(8) / 8)
        turned = pairs * torch.exp(1j * angles)[:, None]
        return torch.cat((turned.real, turned.imag), -1)

    waves = sigma[:, None] * torch.tensor([10_000 ** (-k / 128) for k in range(128)])
    level = linear(torch.cat((waves.cos(), waves.sin()), -1), "sigma_map.mlp.0")
    c = functional.silu(linear(functional.silu(level), "sigma_map.mlp.2"))[:, None]
    x = weights["vocab_embed.embedding"][xt]
    for i in range(2):
        block = f"blocks.{i}."
        sh1, sc1, g1, sh2, sc2, g2 = linear(c, block + "adaLN_modulation").split(32, -1)
        q, k, v = linear(norm(x, block + "norm1") * (1 + sc1) + sh1, block + "attn_qkv").split(32, -1)
        q, k, v = (each.reshape(2, 8, 2, 16) for each in (q, k, v))
        scores = torch.einsum("bihd,bjhd->bhij", rotated(q), rotated(k)) / 4
        mixed = torch.einsum("bhij,bjhd->bihd", scores.softmax(-1), v).reshape(2, 8, 32)
        x = x + g1 * linear(mixed, block + "attn_out")
        inner = functional.gelu(linear(norm(x, block + "norm2") * (1 + sc2) + sh2, block + "mlp.0"), approximate="tanh")
        x = x + g2 * linear(inner, block + "mlp.2")
    sh, sc = linear(c, "output_layer.adaLN_modulation").split(32, -1)
    return linear(norm(x, "output_layer.norm_final") * (1 + sc) + sh, "output_layer.linear")

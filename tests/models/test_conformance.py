"""What every family keeps to, whatever its network: one loop over the table, so that a new row is tested by being
there."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch
from torch import Tensor

from sepo.models import FAMILIES, family_of, load, save_pretrained
from tests.models.toys import LENGTH, MASK, NETWORKS, SIZE, denoiser, half_masked

T = torch.full((3,), 0.5)
SITES = torch.tensor([[0, 5], [11, 5], [3, 3]])
each_family = pytest.mark.parametrize("family", NETWORKS)


def test_every_row_of_the_table_is_tested_here() -> None:
    assert set(NETWORKS) | {"diffusion_gemma"} == set(FAMILIES)


@each_family
def test_a_network_is_recognised_as_its_family(family: str) -> None:
    assert family_of(NETWORKS[family]()) == family


@each_family
@torch.no_grad()
def test_the_posterior_is_normalised_and_the_mask_is_never_predicted(family: str) -> None:
    log_posterior = denoiser(family).log_posterior(half_masked(), T)
    assert log_posterior.shape == (3, LENGTH, SIZE)
    assert torch.allclose(log_posterior.exp().sum(-1), torch.ones(3, LENGTH), atol=1e-5)
    masked = half_masked() == MASK
    assert (log_posterior[..., MASK][masked] == -torch.inf).all()
    assert log_posterior[masked].exp().std(0)[:MASK].min() > 1e-3, "the toy network must not be a constant"


@each_family
@torch.no_grad()
def test_asking_for_some_sites_gives_what_gathering_afterwards_gives(family: str) -> None:
    lens = denoiser(family)
    everywhere, there = lens.logits(half_masked(), T), lens.logits(half_masked(), T, sites=SITES)
    assert there.shape == (3, 2, SIZE)
    assert torch.allclose(there, everywhere[torch.arange(3)[:, None], SITES], atol=1e-5)


@each_family
def test_asking_for_some_sites_has_the_gradient_of_gathering_afterwards(family: str) -> None:
    lens = denoiser(family)
    lens.logits(half_masked(), T, sites=SITES)[..., :MASK].square().sum().backward()
    direct = _gradients(lens.network)
    lens.logits(half_masked(), T)[torch.arange(3)[:, None], SITES][..., :MASK].square().sum().backward()
    _assert_close(direct, _gradients(lens.network))


@each_family
@torch.no_grad()
def test_what_stands_in_the_padding_does_not_matter(family: str) -> None:
    lens, xt = denoiser(family), half_masked()
    attend = torch.arange(LENGTH).expand(3, -1) < torch.tensor([[LENGTH], [8], [5]])
    if not FAMILIES[family].padding:
        with pytest.raises(ValueError, match="padding"):
            lens.logits(xt, T, attend)
        return
    other = xt.where(attend, (xt + 1) % SIZE)
    padded, changed = lens.logits(xt, T, attend), lens.logits(other, T, attend)
    assert torch.allclose(padded[attend], changed[attend], atol=1e-5)
    short = lens.logits(xt[1:2, :8], T[:1])
    assert torch.allclose(padded[1, :8], short[0], atol=1e-5)
    assert not torch.allclose(padded[1, :8], lens.logits(xt, T)[1, :8], atol=1e-3), "attend must make a difference"


@each_family
@torch.no_grad()
def test_saving_and_loading_changes_nothing(family: str, tmp_path: Path) -> None:
    saved = denoiser(family)
    save_pretrained(saved, tmp_path / "checkpoint")
    loaded = load(tmp_path / "checkpoint")
    assert torch.equal(loaded.logits(half_masked(), T), saved.logits(half_masked(), T))
    assert (loaded.process, loaded.meaning, loaded.banned) == (saved.process, saved.meaning, saved.banned)
    assert (loaded.time_free, loaded.length, loaded.call) == (saved.time_free, saved.length, saved.call)
    assert not loaded.network.training


@each_family
@torch.no_grad()
def test_stock_from_pretrained_reads_the_folder_too(family: str, tmp_path: Path) -> None:
    saved = denoiser(family)
    save_pretrained(saved, tmp_path)
    again = type(saved.network).from_pretrained(tmp_path)  # type: ignore[attr-defined]
    assert torch.equal(saved.on(again).logits(half_masked(), T), saved.logits(half_masked(), T))


@each_family
def test_gradient_checkpointing_gives_the_same_gradients_and_keeps_less(family: str) -> None:
    lens = denoiser(family)
    lens.network.train()
    plain, kept = _gradients_and_saved_bytes(lens)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        lens.network.gradient_checkpointing_enable({"use_reentrant": False})  # type: ignore[operator]
    checkpointed, kept_less = _gradients_and_saved_bytes(lens)
    _assert_close(plain, checkpointed)
    assert kept_less < 0.8 * kept


@each_family
@torch.no_grad()
def test_bfloat16_runs_and_stays_near(family: str) -> None:
    lens = denoiser(family)
    exact = lens.logits(half_masked(), T)[..., :MASK]
    half = lens.on(lens.network.to(torch.bfloat16)).logits(half_masked(), T)[..., :MASK]
    assert half.dtype == torch.float32
    assert (half - exact).abs().mean() < 0.05 * exact.std()


@each_family
def test_autocast_runs_with_finite_gradients(family: str) -> None:
    lens = denoiser(family)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = lens.logits(half_masked(), T)[..., :MASK]
    logits.square().sum().backward()
    assert all(gradient.isfinite().all() for gradient in _gradients(lens.network).values())


@each_family
def test_adapters_reach_the_layers_that_the_family_names(family: str) -> None:
    peft = pytest.importorskip("peft")
    lens, targets = denoiser(family), list(FAMILIES[family].lora)
    before = lens.logits(half_masked(), T)
    config = peft.LoraConfig(r=2, target_modules=targets or None)
    adapted = lens.on(peft.get_peft_model(lens.network, config))
    assert torch.equal(adapted.logits(half_masked(), T), before), "adapters start at zero"
    adapted.logits(half_masked(), T, sites=SITES)[..., :MASK].square().sum().backward()
    trained = {name for name, weight in adapted.network.named_parameters() if weight.grad is not None}
    assert trained and all("lora_" in name for name in trained)
    assert all(any(f"{target}." in name for name in trained) for target in targets)


@each_family
def test_a_sequence_that_does_not_fit_is_refused_with_both_lengths(family: str) -> None:
    lens = denoiser(family)
    allowed = FAMILIES[family].lengths(lens.network.config)  # type: ignore[arg-type]
    if allowed[-1] > 10**6 or FAMILIES[family].stock is not None:
        return
    with pytest.raises(ValueError, match=f"{allowed[-1] + 1} tokens.*{allowed[-1]}"):
        lens.logits(half_masked(length=allowed[-1] + 1), T)


def _gradients(network: torch.nn.Module) -> dict[str, Tensor]:
    """The gradients, which are then cleared."""
    found = {name: weight.grad.clone() for name, weight in network.named_parameters() if weight.grad is not None}
    assert found
    network.zero_grad()
    return found


def _gradients_and_saved_bytes(lens) -> tuple[dict[str, Tensor], int]:
    """Gradients, and the bytes that the forward pass kept for the backward pass beside the weights."""
    weights = {weight.data_ptr() for weight in lens.network.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        if tensor.data_ptr() not in weights:
            kept[tensor.data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = lens.logits(half_masked(), T)[..., :MASK].square().sum()
    loss.backward()
    return _gradients(lens.network), sum(kept.values())


def _assert_close(first: dict[str, Tensor], second: dict[str, Tensor]) -> None:
    assert first.keys() == second.keys()
    for name, gradient in first.items():
        assert torch.allclose(gradient, second[name], rtol=1e-4, atol=1e-4 * float(gradient.abs().max())), name

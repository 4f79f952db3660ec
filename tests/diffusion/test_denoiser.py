"""The lens: what is ruled out, what is counted, and that posterior and score are two readings of one network."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from sepo.diffusion.denoiser import Denoiser, evaluating
from sepo.diffusion.meaning import LeaveOneOut, Score
from sepo.diffusion.process import Absorbing, Uniform
from sepo.evaluation.worlds import World, at_time, ideal_uniform, look_up, markov_chain, random_table
from sepo.ops import rows
from tests.worlds import SMALL


class Constant(nn.Module):
    """The same logits at every site."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = nn.Parameter(logits)
        self.dropout = nn.Dropout()

    def forward(self, xt: Tensor) -> Tensor:
        return self.logits.expand(*xt.shape, -1)


def constant(logits: list[float], process: Absorbing | Uniform, **options: object) -> Denoiser:
    return Denoiser(Constant(torch.tensor(logits)), process, look_up, **options)  # type: ignore[arg-type]


def test_the_mask_and_banned_ids_have_no_probability_and_the_rest_is_normalised() -> None:
    policy = constant([1.0, 2.0, 3.0, 9.0], Absorbing(4, 3), banned=(1,))
    law = policy.log_posterior(torch.full((2, 5), 3), at_time(0.5, 2)).exp()
    assert (law[..., [1, 3]] == 0).all()
    assert torch.allclose(law[0, 0, [0, 2]], torch.tensor([1.0, 3.0]).softmax(0))


def test_banned_ids_are_not_drawn_under_the_uniform_process_either() -> None:
    policy = constant([1.0, 2.0, 3.0], Uniform(3), banned=(2,), meaning=Score(scale_by_sigma=False))
    law = policy.log_posterior(torch.zeros(1, 2, dtype=torch.long), at_time(0.5, 1)).exp()
    assert (law[..., 2] == 0).all() and torch.allclose(law.sum(-1), torch.ones(1, 2).double())


def test_a_site_that_is_not_masked_is_known() -> None:
    policy = random_table(SMALL, seed=0)
    xt = torch.tensor([[0, 3, 2]])
    law = policy.log_posterior(xt, at_time(0.5, 1)).exp()[0]
    assert law[0].tolist() == [1, 0, 0, 0] and law[2].tolist() == [0, 0, 1, 0]
    assert 0 < law[1, 0] < 1


def test_gathering_sites_before_the_head_equals_reading_all() -> None:
    for policy, size in ((random_table(SMALL), 4), (ideal_uniform(SMALL, markov_chain(SMALL)), 3)):
        xt = torch.randint(size, (10, 3), generator=torch.Generator().manual_seed(0))
        sites = torch.randint(3, (10, 2), generator=torch.Generator().manual_seed(1))
        full = policy.log_posterior(xt, at_time(0.3, 10))
        assert torch.equal(policy.log_posterior(xt, at_time(0.3, 10), sites=sites), rows(full, sites))


def test_evaluations_count_sequences_and_those_with_gradient_apart() -> None:
    policy = random_table(SMALL)
    xt = torch.full((7, 3), 3)
    policy.logits(xt, at_time(0.5, 7))
    with torch.no_grad():
        policy.on(policy.network).logits(xt[:2], at_time(0.5, 2))
    assert policy.meter.evaluations == 9 and policy.meter.with_gradient == 7


def test_a_vocabulary_that_does_not_fit_is_named() -> None:
    with pytest.raises(ValueError, match=r"3 logits per site.*has 4 token ids"):
        constant([0.0, 0.0, 0.0], Absorbing(4, 3)).logits(torch.zeros(1, 2, dtype=torch.long), at_time(0.5, 1))
    with pytest.raises(ValueError, match=r"banned=\[4\]"):
        constant([0.0, 0.0, 0.0, 0.0], Absorbing(4, 3), banned=(4,))


def test_logits_of_half_precision_become_float32_and_double_stays_double() -> None:
    xt, t = torch.full((1, 2), 3), torch.tensor([0.5])
    half = constant([1.0, 2.0, 3.0, 0.0], Absorbing(4, 3))
    half.network.to(torch.bfloat16)
    assert half.logits(xt, t).dtype == torch.float32
    assert random_table(SMALL).logits(torch.full((1, 3), 3), t).dtype == torch.float64


def test_a_score_network_of_absorbing_is_a_denoiser() -> None:
    """Raw logits f of SEDD: s = exp(f) / (expm1(sigma) V), and its posterior is softmax(f)."""
    raw = [0.5, -1.0, 0.3, 7.0]
    policy = constant(raw, Absorbing(4, 3), meaning=Score())
    xt, t = torch.tensor([[3, 1]]), at_time(0.4, 1)
    sigma = policy.process.schedule.sigma(t)
    score = policy.log_score(xt, t).exp()[0, 0]
    assert torch.allclose(score[:3], (torch.tensor(raw[:3]).exp() / (sigma.expm1() * 3)).to(score))
    assert score[3] == 1
    law = policy.log_posterior(xt, t).exp()[0]
    assert torch.allclose(law[0, :3], torch.tensor(raw[:3]).softmax(0).to(law)) and law[1, 1] == 1


def test_posterior_and_score_networks_of_one_law_agree() -> None:
    """The ideal posterior turned into a score network reads as the same posterior and the same score."""
    world = World(3, 2)
    ideal = ideal_uniform(world, markov_chain(world))

    def as_score(network: nn.Module, xt: Tensor, sigma: Tensor, attend: object, sites: object) -> Tensor:
        t = ideal.process.schedule.time((-sigma).exp())
        return ideal.log_score(xt, t) + sigma.expm1().log()[:, None, None] + torch.tensor(2.0).log()

    score = replace(ideal, call=as_score, meaning=Score())
    xt, t = world.sequences, at_time(0.6, 9)
    torch.testing.assert_close(score.log_score(xt, t), ideal.log_score(xt, t), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(score.log_posterior(xt, t), ideal.log_posterior(xt, t), rtol=1e-6, atol=1e-6)


def test_evaluating_restores_the_mode_of_every_module() -> None:
    network = nn.Sequential(nn.Dropout(), nn.Dropout())
    network[1].eval()
    with evaluating(network):
        assert not any(module.training for module in network.modules())
    assert [module.training for module in network.modules()] == [True, True, False]


def test_leave_one_out_logits_are_the_posterior_after_what_the_site_itself_says() -> None:
    """p(x0_i | x_t without site i) by enumeration, through the lens, is p(x0_i | x_t) by Bayes over all sequences."""
    law, t = markov_chain(SMALL, seed=1), torch.tensor([0.3, 0.7], dtype=torch.double)
    ideal = ideal_uniform(SMALL, law)
    process, xt = ideal.process, torch.tensor([[0, 2, 1], [2, 2, 0]])
    likelihood = process.given_end(xt, process.schedule.alpha(t))[:, torch.arange(3), SMALL.sequences]
    logits = torch.zeros(2, 3, 3, dtype=torch.double)
    for site in range(3):
        others = [other for other in range(3) if other != site]
        joint = likelihood[..., others].prod(-1) * law
        for letter in range(3):
            logits[:, site, letter] = joint[:, SMALL.sequences[:, site] == letter].sum(1).log()
    found = LeaveOneOut().log_posterior(logits, xt, t, process)
    torch.testing.assert_close(found, ideal.log_posterior(xt, t).detach(), rtol=1e-6, atol=1e-6)
    score = LeaveOneOut().log_score(logits, xt, t, process)
    torch.testing.assert_close(score, ideal.log_score(xt, t).detach(), rtol=1e-6, atol=1e-6)


BATCH, LONG, SIZE = 3, 5, 11
WHOLE = BATCH * LONG * SIZE


class Whole(TorchDispatchMode):
    """Keeps every float32 tensor of the size of all logits that is made, so that none takes the place of another."""

    def __init__(self) -> None:
        super().__init__()
        self.made: dict[int, Tensor] = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        if isinstance(made, Tensor) and made.dtype == torch.float32 and made.numel() == WHOLE:
            self.made.setdefault(made.untyped_storage().data_ptr(), made)
        return made


def of_dtype(dtype: torch.dtype) -> tuple[Denoiser, Tensor]:
    """A network that hands out the same tensor every time, and a state with masks in it."""
    network = nn.ParameterList([torch.randn(BATCH, LONG, SIZE, generator=torch.Generator().manual_seed(0)).to(dtype)])
    policy = Denoiser(network, Absorbing(SIZE, mask=10), lambda network, *_: network[0], banned=(1,))
    return policy, torch.tensor([[10, 0, 10, 2, 10]]).expand(BATCH, -1)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_laws_of_half_precision_are_made_with_two_tensors_of_their_size(dtype: torch.dtype) -> None:
    """Converted or copied once, then normalised; what is ruled out or known is written where it stands."""
    policy, xt = of_dtype(dtype)
    with torch.no_grad(), Whole() as whole:
        law = policy.log_posterior(xt, torch.full((BATCH,), 0.5))
    assert len(whole.made) == 2 and law.untyped_storage().data_ptr() in whole.made


def test_a_law_with_a_gradient_keeps_one_tensor_of_its_size() -> None:
    policy, xt = of_dtype(torch.float32)
    kept = {}

    def pack(tensor: Tensor) -> Tensor:
        if tensor.dtype == torch.float32 and tensor.numel() == WHOLE:
            kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        law = policy.log_posterior(xt, torch.full((BATCH,), 0.5))
    assert list(kept) == [law.untyped_storage().data_ptr()]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_what_the_network_holds_is_never_written_to(dtype: torch.dtype) -> None:
    policy, xt = of_dtype(dtype)
    [held] = policy.network.parameters()
    before = held.detach().clone()
    for grad in (True, False):
        with torch.set_grad_enabled(grad):
            first = policy.log_posterior(xt, torch.full((BATCH,), 0.5))
            assert torch.equal(policy.log_posterior(xt, torch.full((BATCH,), 0.5)), first)
    assert torch.equal(held, before)


def test_laws_with_and_without_a_gradient_are_equal_and_known_sites_have_no_slope() -> None:
    policy, xt = of_dtype(torch.float32)
    [held] = policy.network.parameters()
    t = torch.full((BATCH,), 0.5)
    law = policy.log_posterior(xt, t)
    with torch.no_grad():
        assert torch.equal(policy.log_posterior(xt, t), law)
    law.exp().square().sum().backward()
    assert held.grad is not None and held.grad.isfinite().all()
    assert (held.grad[xt != 10] == 0).all() and (held.grad[xt == 10].abs().sum(-1) > 0).all()

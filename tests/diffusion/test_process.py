"""Processes against explicit matrices: transition, bridge, reverse kernel, score and posterior, draws."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from sepo.diffusion.process import PROCESSES, Absorbing, Process, Uniform
from sepo.diffusion.schedule import SCHEDULES
from sepo.ops import Chance
from tests.worlds import Written

EXACT = {"rtol": 1e-6, "atol": 1e-6}


@st.composite
def processes(draw: st.DrawFn) -> Process:
    size, schedule = draw(st.integers(2, 6)), SCHEDULES[draw(st.sampled_from(sorted(SCHEDULES)))]()
    mask = draw(st.integers(0, size - 1))
    return draw(st.sampled_from([Uniform(size, schedule=schedule), Absorbing(size, mask, schedule=schedule)]))


times = st.floats(0.02, 0.98)
seeds = st.integers(0, 1000)


def at(t: float) -> Tensor:
    return torch.tensor([t], dtype=torch.double)


def alpha(process: Process, t: float) -> Tensor:
    return process.schedule.alpha(at(t))[0]


def matrix(process: Process, kept: Tensor) -> Tensor:
    """Q[v, y] = q(y | v) when a token is kept with probability `kept`."""
    limit = process.limit_law(torch.device("cpu")).double()
    return kept * torch.eye(process.size, dtype=torch.double) + (1 - kept) * limit.expand(process.size, -1)


def every_token(process: Process) -> Tensor:
    """All token ids, as one sequence."""
    return torch.arange(process.size).unsqueeze(0)


def data_law(process: Process, seed: int) -> Tensor:
    """A law of one token; the mask is not data."""
    logits = torch.randn(process.size, generator=torch.Generator().manual_seed(seed), dtype=torch.double)
    if isinstance(process, Absorbing):
        logits[process.mask] = -torch.inf
    return logits.softmax(0)


def posteriors(process: Process, law: Tensor, t: float) -> Tensor:
    """p(x0 = v | x_t = y), [1, y, v]; rows that cannot occur are left to `carry_over`."""
    joint = (law.unsqueeze(1) * matrix(process, alpha(process, t))).T
    return (joint / joint.sum(1, keepdim=True).clamp_min(1e-300)).unsqueeze(0)


@given(processes(), times)
def test_forward_laws_are_rows_and_columns_of_the_matrix(process: Process, t: float) -> None:
    kept = alpha(process, t)
    x = every_token(process)
    torch.testing.assert_close(process.given_start(x, kept.unsqueeze(0))[0], matrix(process, kept), **EXACT)
    torch.testing.assert_close(process.given_end(x, kept.unsqueeze(0))[0], matrix(process, kept).T, **EXACT)


@given(processes(), times, st.floats(0.05, 0.95))
def test_transitions_compose(process: Process, t: float, fraction: float) -> None:
    alpha_t, alpha_s = alpha(process, t), alpha(process, t * fraction)
    composed = matrix(process, alpha_s) @ matrix(process, alpha_t / alpha_s)
    torch.testing.assert_close(composed, matrix(process, alpha_t), **EXACT)


@given(processes(), times, st.floats(0.05, 0.95), seeds)
def test_the_reverse_kernel_is_bayes_rule_over_matrices(process: Process, t: float, fraction: float, seed: int) -> None:
    law, s = data_law(process, seed), t * fraction
    log_posterior = process.carry_over(posteriors(process, law, t).log(), every_token(process))
    kernel = process.reverse(log_posterior, every_token(process), at(t), at(s))[0]
    to_s, s_to_t, to_t = (
        matrix(process, kept) for kept in (alpha(process, s), alpha(process, t) / alpha(process, s), alpha(process, t))
    )
    # expected[x_t, x_s] = sum_v p(v | x_t) q(x_s | v) q(x_t | x_s) / q(x_t | v)
    bridge = to_s.unsqueeze(1) * s_to_t.T.unsqueeze(0) / to_t.unsqueeze(-1).clamp_min(1e-300)
    expected = torch.einsum("xv,vxs->xs", log_posterior[0].exp(), bridge)
    torch.testing.assert_close(kernel, expected, **EXACT)
    torch.testing.assert_close(kernel.sum(1), torch.ones(process.size, dtype=torch.double), **EXACT)


@given(processes(), times, st.floats(0.1, 0.9), st.floats(0.1, 0.9), seeds)
def test_reverse_kernels_of_an_exact_posterior_compose_and_lead_back_to_the_data(
    process: Process, t: float, first: float, second: float, seed: int
) -> None:
    law, s = data_law(process, seed), t * first
    r = s * second

    def kernel(start: float, end: float) -> Tensor:
        log_posterior = process.carry_over(posteriors(process, law, start).log(), every_token(process))
        return process.reverse(log_posterior, every_token(process), at(start), at(end))[0]

    marginal_t, marginal_r = (law @ matrix(process, alpha(process, time)) for time in (t, r))
    torch.testing.assert_close(marginal_t @ kernel(t, s) @ kernel(s, r), marginal_r, **EXACT)
    torch.testing.assert_close(marginal_t @ kernel(t, r), marginal_r, **EXACT)
    possible = marginal_t > 1e-12
    torch.testing.assert_close((kernel(t, s) @ kernel(s, r))[possible], kernel(t, r)[possible], **EXACT)


@given(processes(), times, seeds)
def test_the_score_is_the_ratio_of_marginals(process: Process, t: float, seed: int) -> None:
    law = data_law(process, seed)
    marginal = law @ matrix(process, alpha(process, t))
    x = every_token(process)
    log_posterior = process.carry_over(posteriors(process, law, t).log(), x)
    score = process.log_score(log_posterior, x, at(t)).exp()[0]
    # An unmasked site's way back to the mask has its value by convention, as if the token were certain.
    rows = [process.mask] if isinstance(process, Absorbing) else range(process.size)
    for row in rows:
        torch.testing.assert_close(score[row], marginal / marginal[row], **EXACT)


@given(processes(), times, seeds)
def test_score_and_posterior_invert_each_other(process: Process, t: float, seed: int) -> None:
    x = every_token(process)
    logits = torch.randn(
        1, process.size, process.size, generator=torch.Generator().manual_seed(seed), dtype=torch.double
    )
    if isinstance(process, Absorbing):
        logits[..., process.mask] = -torch.inf
    log_posterior = process.carry_over(logits.log_softmax(-1), x)
    log_score = process.log_score(log_posterior, x, at(t))
    torch.testing.assert_close(process.posterior(log_score, x, at(t)), log_posterior.exp(), rtol=1e-5, atol=1e-5)
    assert (log_score.gather(-1, x.unsqueeze(-1)) == 0).all()


@given(processes(), times, st.floats(0.05, 0.95), seeds)
def test_the_fast_formulas_of_absorbing_equal_the_general_ones(
    process: Process, t: float, fraction: float, seed: int
) -> None:
    if not isinstance(process, Absorbing):
        return
    x, s = every_token(process), at(t * fraction)
    log_posterior = process.carry_over(data_law(process, seed).log().expand(1, process.size, -1), x)
    fast, general = (
        kind.log_score(process, log_posterior, x, at(t)).exp()  # type: ignore[arg-type]
        for kind in (Absorbing, Process)
    )
    torch.testing.assert_close(fast, general, rtol=1e-6, atol=1e-9)
    x0 = x.masked_fill(x == process.mask, (process.mask + 1) % process.size)
    xt = torch.where(torch.arange(process.size) % 2 == 0, torch.tensor(process.mask), x0)
    log_score = process.log_score(process.carry_over(log_posterior, xt), xt, at(t))
    fast, general = (
        kind.score_entropy(process, log_score, xt, x0, at(t))  # type: ignore[arg-type]
        for kind in (Absorbing, Process)
    )
    torch.testing.assert_close(fast, general, rtol=1e-6, atol=1e-9)
    reveal = process.reveal_probability(at(t), s)
    expected = reveal * log_posterior[0, process.mask].exp()
    expected[process.mask] += 1 - reveal[0]
    torch.testing.assert_close(process.reverse(log_posterior, x, at(t), s)[0, process.mask], expected, **EXACT)


@pytest.mark.parametrize("kind", sorted(PROCESSES))
def test_a_step_is_drawn_from_the_reverse_kernel(kind: str) -> None:
    """Uniform numbers on a fine grid, as rows: the frequencies are the kernel to the width of the grid."""
    process: Process = Uniform(3) if kind == "uniform" else Absorbing(4, 3)
    fine = torch.cartesian_prod(torch.arange(0.5, 100) / 100, torch.arange(0.5, 100) / 100)
    xt = torch.full((len(fine), 1), 2 if kind == "uniform" else 3)
    law = torch.tensor([0.5, 0.3, 0.2] + [0.0] * (process.size - 3)).log().expand(len(fine), 1, -1)
    t, s = torch.full((len(fine),), 0.7), torch.full((len(fine),), 0.3)
    numbers = fine[:, :1].double() if kind == "uniform" else fine.unsqueeze(-1).double()
    drawn = process.step(law, xt, t, s, Written.down(numbers))
    frequency = drawn.flatten().bincount(minlength=process.size) / len(fine)
    torch.testing.assert_close(frequency, process.reverse(law, xt, t, s)[0, 0], rtol=0, atol=0.011)


def test_a_step_of_masks_leaves_known_tokens_alone_whatever_the_posterior_says() -> None:
    xt, t, s = torch.tensor([[0, 3, 1]] * 50), torch.full((50,), 0.9), torch.full((50,), 0.0)
    law = torch.tensor([0.2, 0.2, 0.6, 0.0]).log().expand(50, 3, -1)
    drawn = Absorbing(4, 3).step(law, xt, t, s, Chance.of(0, 50))
    assert (drawn[:, [0, 2]] == torch.tensor([0, 1])).all() and (drawn[:, 1] != 3).all()


@pytest.mark.parametrize("process", [Uniform(4), Absorbing(4, 1)], ids=["uniform", "absorbing"])
def test_corruption_follows_the_forward_law_and_leaves_given_sites_alone(process: Process) -> None:
    batch = 20000
    x0 = torch.tensor([[2, 3, 0]]).repeat(batch, 1)
    free = torch.tensor([[True, True, False]]).repeat(batch, 1)
    xt = process.corrupt(x0, torch.full((batch,), 0.4), free, Chance.of(0, batch))
    assert (xt[:, 2] == 0).all()
    law = process.given_start(x0, process.schedule.alpha(torch.full((batch,), 0.4)))[0]
    for site in (0, 1):
        frequency = xt[:, site].bincount(minlength=4) / batch
        torch.testing.assert_close(frequency, law[site], rtol=0, atol=4 * 0.5 / batch**0.5)


@pytest.mark.parametrize("process", [Uniform(4), Absorbing(4, 1)], ids=["uniform", "absorbing"])
def test_noise_is_the_limit_law_at_free_sites(process: Process) -> None:
    tokens, free = torch.zeros(8000, 2, dtype=torch.long), torch.tensor([[True, False]]).repeat(8000, 1)
    noise = process.noise(tokens, free, Chance.of(1, 8000))
    assert (noise[:, 1] == 0).all()
    frequency = noise[:, 0].bincount(minlength=4) / 8000
    torch.testing.assert_close(frequency, process.limit_law(torch.device("cpu")), rtol=0, atol=0.025)


def test_a_mask_outside_the_vocabulary_and_a_single_token_are_refused() -> None:
    with pytest.raises(ValueError, match=r"mask=5.*5 ids.*0 to 4"):
        Absorbing(5, 5)
    with pytest.raises(ValueError, match=r"size=1.*at least two"):
        Uniform(1)

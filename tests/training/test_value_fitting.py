"""A learned value: near the exact one, as good to be guided by, counted, kept in a folder."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from sepo.diffusion.canvas import Canvas
from sepo.diffusion.denoiser import Denoiser
from sepo.evaluation.exact import optimum, transition
from sepo.evaluation.worlds import World, markov_chain, tabular
from sepo.ops import Chance
from sepo.samplers import Ancestral, roll
from sepo.samplers.guided import SVDD, Counted
from sepo.training.value_fitting import FittedValue, ValueFit, fit_value, load_value, save_value
from tests.samplers.tilted import BETA, INNER, REWARD, by_table, distance, each_process, exact_value, law_of, policies
from tests.worlds import SMALL, at_step

QUICK = ValueFit(updates=150, batch=128, lr=1e-2, hidden_size=32, kernel=3, at_once=3000)


def learned(policy: Denoiser, beta: float) -> FittedValue:
    how = ValueFit(**{**vars(QUICK), "beta": beta})
    return fit_value(policy, INNER, by_table(REWARD), how, Canvas.blank(3000, 3))


@torch.no_grad()
def expected(policy: Denoiser, process: str) -> tuple[Tensor, Tensor]:
    """E[r(x0) | state] after each number of steps, and the share of rollouts in each state, by the matrices."""
    masks = process == "absorbing"
    space = SMALL.states if masks else SMALL.sequences
    ahead, here = (torch.zeros(len(space), dtype=torch.double) for _ in range(2))
    ahead[SMALL.state_index(SMALL.sequences) if masks else slice(None)] = REWARD
    moves = [transition(INNER.kernel(policy, space, at_step(j, space)).double(), space) for j in range(INNER.steps)]
    here[SMALL.state_index(torch.full((1, 3), 3)) if masks else slice(None)] = 1.0 if masks else 1 / len(space)
    values, shares = [ahead], [here]
    for move in moves:
        shares.append(shares[-1] @ move)
    for move in reversed(moves):
        values.append(move @ values[-1])
    return torch.stack(values[::-1]), torch.stack(shares)


@each_process
def test_a_fitted_value_is_the_enumerated_mean_of_the_reward(process: str) -> None:
    """It leaves less than a tenth of the variance between the states that are visited after each number of steps."""
    policy = policies()[process]
    value = learned(policy, 0.0)
    table, share = expected(policy, process)
    space = SMALL.states if process == "absorbing" else SMALL.sequences
    steps = range(1, INNER.steps + 1)
    found = torch.stack([value.of(space, at_step(step, space)) for step in steps])
    mean = (share * table).sum(1, keepdim=True)
    error = (share[1:] * (found - table[1:]).square()).sum()
    assert error < 0.1 * (share * (table - mean).square())[1:].sum()
    assert value.fitted.correlation > 0.4


@each_process
def test_a_soft_value_guides_as_the_exact_one_does(process: str) -> None:
    """By the argmax fills, which know one sequence of each state, the law ends further away."""
    policy, reward = policies()[process], by_table(REWARD)
    goal = optimum(law_of(INNER, policy), REWARD, BETA)
    values = (exact_value(INNER, policy, REWARD, BETA), learned(policy, BETA), None)
    exact, fitted, filled = (distance(SVDD(INNER, reward, 12, BETA, each), policy, goal, 2048) for each in values)
    print(f"SVDD, {process}: exact {exact:.3f}, learned {fitted:.3f}, argmax fill {filled:.3f}")
    assert fitted < exact + 0.06 and fitted < filled - 0.06


def test_where_the_likeliest_fill_is_wrong_it_finds_more_and_asks_less() -> None:
    """Two letters, of which the likelier is worth 0 where the other is, too: a fill says that all states are alike."""
    world = World(letters=2, length=4)
    policy = tabular(world, markov_chain(world, seed=2, sharpness=0.5))
    inner = Ancestral(4)
    rare = torch.ones(len(world.sequences), dtype=torch.double)
    with torch.no_grad():
        start = policy.log_posterior(torch.full((1, 4), 2), torch.ones(1)).argmax(-1)[0]
    policy = tabular(world, markov_chain(world, seed=2, sharpness=0.5))
    rare[(world.sequences == start).sum(1) > 1] = 0.0
    reward = Counted(lambda tokens: rare[world.index(tokens)])
    value = fit_value(policy, inner, reward, QUICK, Canvas.blank(1000, 4))
    assert reward.calls == value.fitted.reward_calls == 1000
    assert value.fitted.evaluations == policy.meter.evaluations > 0
    found, calls, evaluations = [], [], []
    for each in (None, value):
        before, spent = reward.calls, policy.meter.evaluations
        x0 = roll(SVDD(inner, reward, 3, value=each), policy, Canvas.blank(2000, 4), Chance.of(0, 2000)).x0
        found.append(float(rare[world.index(x0)].mean()))
        calls.append((reward.calls - before) / 2000)
        evaluations.append((policy.meter.evaluations - spent) / 2000)
    assert found[1] > found[0] + 0.05, found
    assert calls == [3 * 4, 3] and evaluations == [1 + 3 * 3, 4]


def test_it_is_kept_in_a_folder_and_opened_for_what_it_was_learned_of(tmp_path: Path) -> None:
    policy = policies()["absorbing"]
    value = fit_value(
        policy, INNER, by_table(REWARD), ValueFit(20, updates=3, batch=8, kernel=3, hidden_size=8), Canvas.blank(20, 3)
    )
    save_value(value, tmp_path)
    found = load_value(tmp_path, policy.process, INNER)
    assert found.fitted == value.fitted
    assert torch.equal(
        found.of(SMALL.states, at_step(1, SMALL.states)), value.of(SMALL.states, at_step(1, SMALL.states))
    )
    with pytest.raises(ValueError, match="learned of 4 token ids, and the model has 3"):
        load_value(tmp_path, policies()["uniform"].process)
    with pytest.raises(ValueError, match="along 3 steps, and the sampler takes 5"):
        load_value(tmp_path, policy.process, Ancestral(5))
    with pytest.raises(ValueError, match=r"holds no value.json; a value is learned"):
        load_value(tmp_path / "nothing")


def test_it_is_the_same_each_time_and_of_no_more_than_the_seed() -> None:
    policy, how = policies()["absorbing"], ValueFit(40, updates=4, batch=8, kernel=3, hidden_size=8)
    torch.manual_seed(0)
    first = fit_value(policy, INNER, by_table(REWARD), how, Canvas.blank(40, 3))
    torch.manual_seed(1)
    drawn = torch.rand(1)
    torch.manual_seed(1)
    second = fit_value(policy, INNER, by_table(REWARD), how, Canvas.blank(40, 3))
    assert torch.equal(torch.rand(1), drawn)
    states = SMALL.states
    assert torch.equal(first.of(states, at_step(2, states)), second.of(states, at_step(2, states)))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"sequences": 9}, "sequences=9 must be at least 10"),
        ({"updates": 0}, "updates=0 must be at least 1"),
        ({"beta": -1.0}, "beta=-1.0"),
        ({"kernel": 4}, "kernel=4: needs .* an odd kernel"),
    ],
)
def test_options_that_mean_nothing(options: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ValueFit(**options)


def test_a_large_vocabulary_is_refused() -> None:
    policy = tabular(World(letters=1100, length=1), torch.full((1100,), 1 / 1100))
    with pytest.raises(ValueError, match=r"at most 1024 token ids, and this model has 1101.*Learned"):
        fit_value(policy, Ancestral(2), by_table(REWARD), canvas=Canvas.blank(20, 1))

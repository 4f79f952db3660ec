"""Block by block: the law is the chain of the inner sampler's laws, each given the blocks before."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sepo.diffusion.canvas import Canvas
from sepo.diffusion.denoiser import Denoiser
from sepo.diffusion.process import Absorbing, Uniform
from sepo.diffusion.rollout import StatePath
from sepo.evaluation.exact import transition
from sepo.evaluation.worlds import World
from sepo.models import as_denoiser
from sepo.models.networks.positions import Rotary
from sepo.models.networks.transformer import Transformer, TransformerConfig
from sepo.ops import Chance
from sepo.samplers import Ancestral, FirstHitting, KernelSampler, Sampler, roll, transitions_log_prob
from sepo.samplers.blocks import Blocks
from tests.models.toys import shaken
from tests.worlds import deviations

PROMPT, BLOCK = 1, 2
INNER = Ancestral(3)
TWO = Blocks(INNER, BLOCK, 2)
each_process = pytest.mark.parametrize("process", [Absorbing(3, mask=2), Uniform(3)], ids=["absorbing", "uniform"])


def policy(process: Absorbing | Uniform) -> Denoiser:
    """A transformer of any length that is neither flat nor certain."""
    config = TransformerConfig(3, Rotary(), hidden_size=16, num_hidden_layers=2, num_attention_heads=2)
    network = shaken(lambda: Transformer(config))
    with torch.no_grad():
        network.get_output_embeddings().weight *= 5  # type: ignore[union-attr]
    return as_denoiser(network, process)


def letters(process: Absorbing | Uniform) -> int:
    return 2 if isinstance(process, Absorbing) else 3


@torch.no_grad()
def law_of_next(policy: Denoiser, before: Tensor) -> Tensor:
    """The law of a block behind `before`, sampled by INNER on a canvas that ends with the block, over its letters."""
    absorbing = isinstance(policy.process, Absorbing)
    space = torch.cartesian_prod(*[torch.arange(3)] * BLOCK)
    weight = (space == 2).all(1).double() if absorbing else torch.full((len(space),), 1 / len(space)).double()
    for step in range(INNER.steps):
        xt = torch.cat((before.expand(len(space), -1), space), dim=1)
        kernel = INNER.kernel(policy, xt, torch.full((len(space),), step))[:, -BLOCK:]
        weight = weight @ transition(kernel.double(), space)
    return weight[(space < letters(policy.process)).all(1)]


def canvas(batch: int, behind: int = 0) -> Canvas:
    """A token, two blocks, and padding behind them."""
    tokens = torch.ones(batch, PROMPT + 2 * BLOCK + behind, dtype=torch.long)
    site = torch.arange(tokens.shape[1]).expand_as(tokens)
    attend = site < PROMPT + 2 * BLOCK
    return Canvas(tokens, attend & (site >= PROMPT), attend if behind else None)


@each_process
@pytest.mark.parametrize("behind", [0, 2])
def test_draws_follow_the_chain_of_the_blocks(process: Absorbing | Uniform, behind: int) -> None:
    denoiser, world = policy(process), World(letters(process), 2 * BLOCK)
    prompt, first = torch.ones(1, PROMPT, dtype=torch.long), World(letters(process), BLOCK)
    before = law_of_next(denoiser, prompt)
    after = [law_of_next(denoiser, torch.cat((prompt, block[None]), dim=1)) for block in first.sequences]
    law = (before.unsqueeze(1) * torch.stack(after)).flatten()
    path = roll(TWO, denoiser, canvas(4000, behind), Chance.of(0, 4000))
    drawn = path.x0[:, PROMPT : PROMPT + 2 * BLOCK]
    assert law.sum().item() == pytest.approx(1, abs=1e-5)
    assert abs(deviations(world, drawn, law)) < 4
    flat = (before.unsqueeze(1) * torch.stack(after).mean(0)).flatten()
    assert deviations(world, drawn, flat) > 10, "the first block must matter to the second"


@each_process
def test_log_prob_of_a_rollout_is_that_of_its_steps_read_again(process: Absorbing | Uniform) -> None:
    denoiser, given = policy(process), canvas(30, behind=1)
    path = roll(TWO, denoiser, given, Chance.of(1, 30))
    assert isinstance(path, StatePath) and path.steps == TWO.steps == 6
    torch.testing.assert_close(transitions_log_prob(TWO, denoiser, path).detach(), path.log_prob)
    changed = path.states[:, 1:] != path.states[:, :-1]
    assert not changed[:, :3, PROMPT + BLOCK :].any() and not changed[:, 3:, : PROMPT + BLOCK].any()
    assert changed[:, :3].any() and changed[:, 3:].any()
    assert path.times[0].tolist() == pytest.approx([1, 2 / 3, 1 / 3] * 2 + [0])


@each_process
@torch.no_grad()
def test_blocks_to_come_are_not_seen_and_rows_may_be_in_different_blocks(process: Absorbing | Uniform) -> None:
    denoiser, given = policy(process), canvas(4, behind=1)
    xt = given.start(process, Chance.of(2, 4))
    steps = torch.tensor([0, 5, 2, 3])
    law = TWO.kernel(denoiser, xt, steps, given.attend)
    other = xt.clone()
    other[:, PROMPT + BLOCK : PROMPT + 2 * BLOCK] = 1 - other[:, PROMPT + BLOCK : PROMPT + 2 * BLOCK].clamp_max(1)
    early = steps < 3
    blind = TWO.kernel(denoiser, other, steps, given.attend)[early]
    torch.testing.assert_close(blind[:, : PROMPT + BLOCK], law[early][:, : PROMPT + BLOCK])
    for row in range(4):
        alone = TWO.kernel(denoiser, xt[row : row + 1, :-1], steps[row : row + 1])
        torch.testing.assert_close(law[row : row + 1, :-1], alone, rtol=1e-4, atol=1e-6)
    assert (denoiser.meter.evaluations, len(law)) == (4 + 4 + 4, 4)


def test_what_it_cannot_do_is_refused() -> None:
    assert isinstance(TWO, KernelSampler) and isinstance(TWO, Sampler) and TWO.exact_density
    with pytest.raises((ValueError, TypeError)):  # the shape checks of the tests come first
        Blocks(FirstHitting(), 2, 2)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="blocks=0"):
        Blocks(INNER, 2, 0)
    with pytest.raises(ValueError, match=r"Row 0 .*before its last 2 tokens"):
        roll(Blocks(INNER, 2, 1), policy(Uniform(3)), canvas(2), Chance.of(0, 2))

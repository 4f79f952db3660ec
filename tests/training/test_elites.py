"""Elites: which are kept, where they are searched around, and what learning them again does to the loss."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor

from sepo.diffusion.canvas import Canvas
from sepo.diffusion.likelihood import bound
from sepo.diffusion.meaning import Score
from sepo.ops import Chance
from sepo.samplers import FirstHitting, roll
from sepo.training.elites import Elites, Replay, around, explorer, learned_again, reading_of
from tests.training.toys import LENGTH, LETTERS, clues, lines, policy, same, trainer, uniform_policy, weights


def elites(*rows: tuple[list[int], float], size: int = 10) -> Elites:
    made = Elites(size)
    made.hear(torch.tensor([row for row, _ in rows]), torch.tensor([value for _, value in rows]))
    return made


def free(rows: int, given: tuple[int, ...] = ()) -> Tensor:
    sites = torch.ones(rows, LENGTH, dtype=torch.bool)
    sites[:, list(given)] = False
    return sites


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 2)), max_size=6), max_size=5), st.integers(1, 4))
def test_the_best_distinct_sequences_are_kept_and_of_equals_the_newest(batches, size):
    kept, told = Elites(size), {}
    for batch in batches:
        rows = torch.tensor([[x, y] for x, y in batch], dtype=torch.long).view(-1, 2)
        kept.hear(rows, rows[:, 1].float())
        for x, y in reversed(batch):  # of one batch the first counts as the newest
            told.pop((x, y), None)
            told[x, y] = float(y)
    newest_first = [*reversed(told.items())]
    expected = sorted(newest_first, key=lambda item: -item[1])[:size]
    assert kept.reward.tolist() == [value for _, value in expected]
    assert len({tuple(row) for row in kept.tokens.tolist()}) == len(kept)


def test_a_sequence_scored_again_has_its_newest_reward_and_one_without_a_reward_is_no_elite():
    kept = elites(([1, 1], 0.5), ([2, 2], 0.4), ([3, 3], float("nan")))
    kept.hear(torch.tensor([[1, 1]]), torch.tensor([0.1]))
    assert kept.tokens.tolist() == [[2, 2], [1, 1]] and kept.reward.tolist() == pytest.approx([0.4, 0.1])


def test_the_best_are_drawn_most_often():
    how, uniform = Replay(pressure=10.0), torch.linspace(0, 0.999999, 10001)
    share = how.draw(5, uniform).bincount() / len(uniform)
    law = 1 / (torch.arange(5) + 0.5)
    torch.testing.assert_close(share, law / law.sum(), atol=1e-3, rtol=0)


def test_the_canvas_around_elites_keeps_what_was_given_and_frees_the_share_that_was_asked_for():
    kept = elites(([1] * LENGTH, 1.0), ([2] * LENGTH, 0.5))
    rows, sites = 400, free(400, given=(0,))
    alone = around(kept, Replay(masked=(0.5, 0.5), crossover=0.0), sites, Chance.of(0, rows))
    assert not alone.free[:, 0].any() and alone.free.any(1).all()
    assert alone.free[:, 1:].float().mean() == pytest.approx(0.5, abs=0.05)
    assert (alone.tokens == alone.tokens[:, :1]).all() and set(alone.tokens.unique().tolist()) == {1, 2}
    least = around(kept, Replay(masked=(0.0, 1e-9), crossover=0.0), sites, Chance.of(0, rows))
    assert (least.free.sum(1) == 1).all()


def test_where_a_stretch_of_another_elite_meets_the_first_a_site_is_filled_anew():
    kept, rows = elites(([1] * LENGTH, 1.0), ([2] * LENGTH, 0.5)), 400
    canvas = around(kept, Replay(masked=(0.0, 1e-9), crossover=1.0), free(rows), Chance.of(0, rows))
    meets = canvas.tokens[:, 1:] != canvas.tokens[:, :-1]
    assert 0.1 < meets.any(1).float().mean() < 0.9
    assert canvas.free[:, :-1][meets].all()
    assert (canvas.free.sum(1) == meets.sum(1).clamp_min(1)).all()


def test_a_stretch_that_moves_frees_what_it_leaves_and_what_it_touches():
    """Read against a loop over sites, on an elite whose tokens are their places."""
    row = list(range(LENGTH))
    kept, rows, sites = elites((row, 1.0)), 300, free(300)
    how = Replay(crossover=0.0, shift=1.0, masked=(0.0, 1e-9))
    canvas = around(kept, how, sites, Chance.of(0, rows))
    moved = canvas.tokens != torch.arange(LENGTH)
    assert 0.3 < moved.any(1).float().mean() < 1
    for tokens, again in zip(canvas.tokens.tolist(), canvas.free.tolist(), strict=True):
        kept_sites = [(place, token) for place, token in enumerate(tokens) if not again[place]]
        steps = {token - place for place, token in kept_sites}
        assert len(steps - {0}) <= 1, "one stretch moves, all of it as far"
        tears = [
            (one, other)
            for (one, token), (other, following) in pairwise(kept_sites)
            if other == one + 1 and following != token + 1
        ]
        assert not tears, "where a stretch ends or begins, the site beside it is filled anew"


@torch.no_grad()
def test_an_explorer_draws_from_the_power_of_the_law_without_what_is_hardly_possible():
    lens, xt = policy(), torch.full((2, LENGTH), LETTERS)
    law = lens.log_posterior(xt, torch.ones(2))[..., :LETTERS]
    found = explorer(lens, Replay(temperature=2.0)).log_posterior(xt, torch.ones(2))
    torch.testing.assert_close(found[..., :LETTERS], (law / 2).log_softmax(-1))
    assert (found[..., LETTERS] == -torch.inf).all()
    some = float(law.exp().median())
    cut = explorer(lens, Replay(temperature=2.0, min_prob=some)).log_posterior(xt, torch.ones(2))[..., :LETTERS]
    assert ((cut == -torch.inf) == (law.exp() < some)).all() and (cut > -torch.inf).any(-1).all()
    kept = (law / 2).masked_fill(law.exp() < some, -torch.inf).log_softmax(-1)
    torch.testing.assert_close(cut, kept)
    assert (explorer(lens, Replay(min_prob=0.49)).log_posterior(xt, torch.ones(2)) > -torch.inf).any(-1).all()


@torch.no_grad()
@pytest.mark.parametrize("made", [policy, uniform_policy])
def test_what_is_learned_again_is_the_bound_on_the_elites(made):
    lens, x0 = made(), torch.tensor([[1, 2, 0, 3, 1, 1]])
    kept, rows = elites((x0[0].tolist(), 1.0)), 512
    views = learned_again(kept, Replay(masks=4), free(rows), lens.process, Chance.of(0, rows))
    found = -(views.weight * reading_of(lens.process).read(lens, views).log_prob).sum((1, 2))
    expected = bound(lens, x0.expand(rows, -1), free(rows), Chance.of(1, rows), draws=4)
    error = (found.var() + expected.var()).sqrt() / rows**0.5
    assert abs(found.mean() - expected.mean()) < 4 * error


@pytest.mark.parametrize("options", [{"algorithm": "elite_replay", "states": 16}, {}])
def test_a_run_learns_its_elites(tmp_path, options):
    """The bound on the best falls, and what is drawn comes nearer to it."""
    replay = {"size": 4}
    run = trainer(tmp_path, max_steps=40, learning_rate=0.02, logging_steps=1, replay_kwargs=replay, **options)
    run.train()
    found = [line for line in lines(tmp_path) if "elites/bound" in line]
    assert found[-1]["elites/bound"] < 0.5 * found[0]["elites/bound"]
    assert found[-1]["reward"] > found[0]["reward"] + 0.3
    assert found[-1]["elites/best"] == 1.0


def test_the_search_scores_further_sequences_and_the_method_learns_from_its_own_alone(tmp_path):
    """With coef 0 the weights are those of a run without elites; the rewards were called for more."""
    calls: list[int] = []

    def reward(completions, **columns):
        calls.append(len(completions))
        return [float((completion == 1).mean()) for completion in completions]

    plain = trainer(tmp_path / "plain", reward=reward, max_steps=3)
    plain.train()
    assert calls == [8, 8, 8]
    calls.clear()
    searching = trainer(tmp_path / "search", reward=reward, max_steps=3, replay_kwargs={"coef": 0.0, "search": 5})
    searching.train()
    assert calls == [8, 5, 8, 5, 8, 5]
    assert same(weights(plain.policy.network), weights(searching.policy.network))


def test_elites_are_found_sooner_by_a_search():
    lens, how, mean = policy(), Replay(size=4, search=16), {}
    for searching in (False, True):
        kept = Elites(4)
        for step in range(12):
            chance = Chance.seeded(0, [step], 16)
            canvas, drawing = Canvas.blank(16, LENGTH), lens
            if searching and step:
                canvas, drawing = around(kept, how, free(16), chance), explorer(lens, how)
            x0 = roll(FirstHitting(), drawing, canvas, chance).x0
            kept.hear(x0, (x0 == 1).float().mean(1))
        mean[searching] = float(kept.reward.mean())
    assert mean[True] > mean[False] + 0.05


def test_prompts_cannot_be_compared(tmp_path):
    with pytest.raises(ValueError, match="different prompts cannot be compared"):
        trainer(tmp_path, rows=clues(3), replay_kwargs={})


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"size": 0}, "size=0 must be at least 1"),
        ({"search": -1}, "search=-1 must be at least 0"),
        ({"temperature": 0.0}, "temperature=0.0"),
        ({"masked": (0.5, 0.2)}, "two shares"),
        ({"masked": [0.1]}, "two shares, such as"),
        ({"crossover": 2.0}, "crossover=2.0 is a chance"),
        ({"shift": -1.0}, "shift=-1.0 is a chance"),
        ({"min_prob": 0.7}, "min_prob=0.7"),
        ({"sise": 3}, "replay_kwargs holds 'sise'; its options are size"),
    ],
)
def test_options_that_mean_nothing(tmp_path, options, words):
    with pytest.raises(ValueError, match=words):
        trainer(tmp_path, replay_kwargs=options)


def test_a_network_of_scores_is_refused_before_anything_is_drawn(tmp_path):
    scores = replace(uniform_policy(), meaning=Score())
    with pytest.raises(ValueError, match="the scores of this network are no law of tokens"):
        trainer(tmp_path, model=scores, replay_kwargs={"search": 2})


def test_elite_replay_without_its_term_is_refused_and_without_elites_yet_goes_on(tmp_path):
    with pytest.raises(ValueError, match="coef=0 leaves an algorithm"):
        trainer(tmp_path, algorithm="elite_replay", states=16, replay_kwargs={"coef": 0.0})

    def sometimes(completions, trainer_state, **columns):
        known = trainer_state.global_step > 0
        return [float((completion == 1).mean()) if known else None for completion in completions]

    run = trainer(tmp_path, reward=sometimes, algorithm="elite_replay", states=16, max_steps=3)
    run.train()
    assert len(run.collector.elites) > 0


def test_a_checkpoint_without_elites_says_so(tmp_path):
    plain = {"max_steps": 4, "save_strategy": "steps", "save_steps": 2}
    trainer(tmp_path, **plain).train()
    stored = tmp_path / "checkpoint-2" / "stream_0.safetensors"
    save_file({name: value for name, value in load_file(stored).items() if not name.startswith("elites")}, stored)
    trainer(tmp_path, **plain).train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    with pytest.raises(ValueError, match="holds no elites"):
        trainer(tmp_path, **plain, replay_kwargs={}).train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))

"""Collecting: rollouts, rewards, returns, advantages, and what is logged of them."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from sepo.diffusion.likelihood import path_log_prob
from sepo.objectives import Advantage
from sepo.objectives.advantages import leave_one_out, none, unit
from sepo.objectives.baselines import StateRegression
from sepo.rewards import RewardError
from sepo.training import Frozen
from tests.training.toys import clues, config, ones, policy, raised, trainer

PLAIN = Advantage(none, unit)


def collect(run, groups=(0, 1)):
    return run.collector.collect(run.stream.rows(list(groups)), list(groups))


def test_a_group_draws_the_same_whatever_it_is_collected_with(tmp_path):
    run = trainer(tmp_path, rows=clues())
    together, alone = collect(run, (0, 1)), collect(run, (1,))
    assert torch.equal(together.rollout.x0[4:], alone.rollout.x0)
    assert torch.equal(together.rollout.order[4:], alone.rollout.order)


def test_given_tokens_are_kept(tmp_path):
    found = collect(trainer(tmp_path, rows=clues()))
    free = found.rollout.canvas.free
    assert torch.equal(found.rollout.x0[~free], found.rollout.canvas.tokens[~free])
    assert found.completions[0][1] == 1


def test_another_seed_draws_something_else(tmp_path):
    first, second = (collect(trainer(tmp_path / str(seed), seed=seed)) for seed in (0, 1))
    assert not torch.equal(first.rollout.x0, second.rollout.x0)


def test_the_return_is_the_reward_less_beta_times_the_log_ratio_of_the_whole_path(tmp_path):
    run = trainer(tmp_path, beta=0.3, advantage=PLAIN, reference=Frozen.of(policy(seed=5).network))
    found = collect(run)
    other = run.policy.on(policy(seed=5).network)
    with torch.no_grad():
        ratio = (path_log_prob(run.policy, found.rollout) - path_log_prob(other, found.rollout)).sum(1)
    assert float(ratio.abs().max()) > 0.05
    expected = found.scores.total.float() - 0.3 * ratio
    assert torch.allclose(found.returns, expected, atol=1e-4)
    assert torch.allclose(found.credit.sequence_advantage, expected, atol=1e-4)
    assert math.isclose(found.metrics["kl"], float(ratio.mean()), abs_tol=1e-4)


def test_without_a_reference_the_return_is_the_reward_and_no_kl_is_logged(tmp_path):
    run = trainer(tmp_path)
    found = collect(run)
    assert torch.allclose(found.returns, found.scores.total.float())
    assert "kl" not in found.metrics and run.reference is None


def test_the_reference_is_read_once_per_state_and_counted(tmp_path):
    run = trainer(tmp_path, beta=0.1)
    collect(run)
    assert run.policy.meter.evaluations == 8 * 6 + 8 * 6
    assert run.policy.meter.with_gradient == 0


def test_prompts_are_compared_within_their_group(tmp_path):
    run = trainer(tmp_path, rows=clues(), advantage=Advantage(leave_one_out, unit))
    found = collect(run)
    for group in (slice(0, 4), slice(4, 8)):
        rewards = found.returns[group]
        expected = rewards - (rewards.sum() - rewards) / 3
        assert torch.allclose(found.credit.sequence_advantage[group], expected, atol=1e-6)


def test_without_prompts_the_whole_collection_is_one_group(tmp_path):
    run = trainer(tmp_path, advantage=Advantage(leave_one_out, unit))
    found = collect(run)
    expected = found.returns - (found.returns.sum() - found.returns) / 7
    assert torch.allclose(found.credit.sequence_advantage, expected, atol=1e-6)


def test_a_reward_of_none_takes_no_part(tmp_path):
    def sometimes(completions, **columns):
        return [None if index in (0, 5) else value for index, value in enumerate(ones(completions))]

    found = collect(trainer(tmp_path, reward=sometimes))
    assert found.returns.isnan().tolist() == [index in (0, 5) for index in range(8)]
    assert (
        found.credit.sequence_advantage[[0, 5]].tolist() == [0, 0] and not found.credit.sequence_advantage.isnan().any()
    )
    known = [value for value in found.scores.total.tolist() if not math.isnan(value)]
    assert found.metrics["frac_reward_none"] == 0.25
    assert math.isclose(found.metrics["reward"], float(np.mean(known)), rel_tol=1e-6)
    assert math.isclose(found.metrics["reward_std"], float(np.std(known, ddof=1)), rel_tol=1e-5)


def test_a_collection_of_none_alone_has_no_advantage_and_is_counted(tmp_path):
    found = collect(trainer(tmp_path, reward=lambda completions, **columns: [None] * len(completions)))
    assert found.credit.sequence_advantage.tolist() == [0] * 8
    assert found.metrics["frac_reward_none"] == 1 and found.metrics["frac_reward_zero_std"] == 1
    assert math.isnan(found.metrics["reward"])


def test_groups_of_equal_rewards_are_counted(tmp_path):
    def first_group_equal(completions, answer, **columns):
        return [1.0 if row < 4 else float(row) for row in range(len(completions))]

    found = collect(trainer(tmp_path, rows=clues(), reward=first_group_equal))
    assert found.metrics["frac_reward_zero_std"] == 0.5
    assert (
        found.credit.sequence_advantage[:4].tolist() == [0] * 4 and found.credit.sequence_advantage[4:].abs().min() > 0
    )


def test_the_metrics_have_the_names_of_trl(tmp_path):
    def other(completions, log_metric, **columns):
        log_metric("share_of_twos", 0.5)
        return [2.0] * len(completions)

    found = collect(trainer(tmp_path, reward=[ones, other], beta=0.1))
    assert set(found.metrics) == {
        *(f"rewards/{name}/{what}" for name in ("ones", "other") for what in ("mean", "std")),
        *("reward", "reward_std", "frac_reward_zero_std", "frac_reward_none", "completions/mean_length"),
        *("kl", "entropy", "return", "share_of_twos"),
    }
    assert found.metrics["rewards/other/mean"] == 2 and found.metrics["completions/mean_length"] == 6
    uniform = math.log(4)
    assert 0.8 * uniform < found.metrics["entropy"] < 1.2 * uniform


def test_a_reward_gets_prompts_completions_ids_columns_and_the_state(tmp_path):
    seen = {}

    def reward(prompts, completions, completion_ids, answer, trainer_state, **others):
        seen.update(prompts=prompts, ids=completion_ids, answer=answer, state=trainer_state, others=others)
        return ones(completions)

    run = trainer(tmp_path, rows=clues(), reward=reward, shuffle_dataset=False)
    run.collector.collect(run.stream.rows([0, 1]), [0, 1], run.state)
    assert seen["prompts"][0].tolist() == [0, 1, -1, -1, -1, -1] and seen["prompts"][4].tolist()[0] == 1
    assert [len(ids) for ids in seen["ids"]] == [4] * 8
    assert seen["answer"] == [0] * 4 + [1] * 4
    assert seen["state"] is run.state
    assert set(seen["others"]) == {"tokens", "free", "log_extra", "log_metric"}


def test_a_reward_that_raises_names_the_function(tmp_path):
    def broken(completions, **columns):
        raise KeyError("answer")

    message = raised(RewardError, lambda: collect(trainer(tmp_path, reward=broken)))
    assert "'broken'" in message and "KeyError" in message


@pytest.mark.parametrize("rows", [None, 4])
def test_a_sequence_alone_has_nothing_to_be_compared_with(tmp_path, rows):
    given = None if rows is None else clues(rows)
    sizes = {"num_generations": 1, "per_device_train_batch_size": 1}
    message = raised(ValueError, lambda: trainer(tmp_path, rows=given, **sizes))
    assert "num_generations=1" in message and "at least 2" in message
    assert trainer(tmp_path, rows=given, baseline="none", **sizes).stream.layout.local == 1


def test_without_prompts_groups_of_one_are_compared_with_the_collection(tmp_path):
    def place(completions, **columns):
        return [float(row) for row in range(len(completions))]

    run = trainer(tmp_path, reward=place, num_generations=1, per_device_train_batch_size=4)
    assert collect(run, (0, 1, 2, 3)).credit.sequence_advantage.sign().tolist() == [-1, -1, 1, 1]


def test_rows_wider_on_another_process_widen_the_canvas(tmp_path):
    from tests.training.toys import text_policy, tokenizer

    words = tokenizer()
    rows = [{"prompt": "the cat"}]
    options = {"max_completion_length": 2, "processing_class": words}
    run = trainer(tmp_path, text_policy(words), reward=_lengths, rows=rows, **options)
    assert run.collector.collect(rows, [0]).rollout.x0.shape[1] == 4

    def widest(values):
        return values + 3 if values.dtype == torch.int64 and values.shape == (1,) else values

    beside = replace(run.collector, gather=widest)
    assert beside.collect(rows, [0]).rollout.x0.shape[1] == 7


def _lengths(completions, **columns):
    return [float(len(completion)) for completion in completions]


def test_options_and_objects_make_the_same_advantage(tmp_path):
    options = config(tmp_path, baseline="leave_one_out", scale_rewards="none")
    run = trainer(tmp_path, baseline="leave_one_out", scale_rewards="none")
    assert options.baseline == "leave_one_out" and run.collector.advantage == Advantage(
        leave_one_out, unit, states=StateRegression()
    )


def test_in_half_precision_the_reference_is_read_like_the_policy_and_rewards_are_not(tmp_path):
    enabled, seen = [], []

    def reward(completions, **columns):
        enabled.append(torch.is_autocast_enabled("cpu"))
        return ones(completions, **columns)

    run = trainer(tmp_path, reward=reward, beta=0.3, bf16=True)
    for network in (run.policy.network, run.reference.copied):
        network.head.register_forward_hook(lambda module, given, logits: seen.append(logits.dtype))
    collect(run)
    assert set(seen) == {torch.bfloat16}
    assert enabled == [False]

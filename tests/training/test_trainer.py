"""SEPOTrainer: it learns, and what people know from transformers and TRL works."""

from __future__ import annotations

import asyncio
import math
from collections import Counter

import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification

from sepo.objectives import SEPO, Advantage, AllSites, FreshMasks, PPOClip, ScoreClip
from sepo.objectives.advantages import leave_one_out, unit
from sepo.rewards import Rewards
from sepo.samplers import Ancestral, FirstHitting
from sepo.training import Frozen
from tests.training.toys import (
    bert,
    clues,
    lines,
    network,
    ones,
    policy,
    raised,
    same,
    text_policy,
    tokenizer,
    trainer,
    twos,
    weights,
)


def test_fine_tuning_raises_the_reward(tmp_path):
    run = trainer(tmp_path, max_steps=25, learning_rate=0.03, logging_steps=5)
    run.train()
    rewards = [line["reward"] for line in lines(tmp_path) if "reward" in line]
    assert rewards[0] < 0.55 and rewards[-1] > 0.85


@pytest.mark.parametrize(
    "options",
    [
        {"reading": "all_sites", "baseline": "leave_one_out", "scale_rewards": "batch"},
        {"reading": "fresh_masks"},
        {"weight": "ppo", "num_iterations": 2},
        {"weight": "unclipped", "states": None, "scale_rewards": "none"},
        {"sampler": "ancestral", "sampling_steps": 4},
        {"sampler": "tau_leaping", "sampling_steps": 8},
        {"path_kl_coef": 0.05, "entropy_coef": 0.01},
        {"beta": 0.05, "sync_ref_model": True, "ref_model_sync_steps": 2},
        {"num_iterations": 2, "steps_per_generation": 2},
        {"dropout": 0.1, "disable_dropout": False},
        {"lr_scheduler_type": "cosine", "warmup_steps": 2.0, "weight_decay": 0.1, "optim": "adafactor"},
    ],
)
def test_every_option_learns(tmp_path, options):
    model = policy(dropout=options.pop("dropout", 0.0))
    run = trainer(tmp_path, model, max_steps=9, learning_rate=0.05, logging_steps=3, **options)
    run.train()
    logged = [line for line in lines(tmp_path) if "reward" in line]
    assert logged[-1]["reward"] > logged[0]["reward"] + 0.1
    assert all(math.isfinite(line["loss"]) for line in logged)


def test_objects_take_the_place_of_strings(tmp_path):
    chosen = {
        "sampler": Ancestral(3),
        "objective": SEPO(AllSites(1), PPOClip(0.1)),
        "advantage": Advantage(leave_one_out, unit),
        "reference": Frozen.of(network(seed=3)),
    }
    run = trainer(tmp_path, weight="unclipped", **chosen)
    made = run.collector
    assert (made.sampler, made.objective, made.advantage, made.reference) == tuple(chosen.values())
    run.train()
    assert "kl" in lines(tmp_path)[0]


def test_a_network_alone_and_rewards_as_an_object_will_do(tmp_path):
    words = tokenizer()
    rewards = Rewards.of(_length)
    run = trainer(tmp_path, bert(words), rewards, [{"prompt": "the [MASK]"}], processing_class=words, max_steps=1)
    assert run.collector.rewards is rewards
    run.train()
    assert run.state.global_step == 1


def test_an_optimizer_and_a_scheduler_of_ones_own(tmp_path):
    model = policy()
    optimizer = torch.optim.SGD(model.network.parameters(), lr=0.5)
    scheduler = torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)
    before = weights(model.network)
    run = trainer(tmp_path, model, optimizers=(optimizer, scheduler))
    run.train()
    assert not same(weights(model.network), before)
    assert {line["learning_rate"] for line in lines(tmp_path) if "loss" in line} == {0.5}


def test_without_prompts_max_steps_is_needed(tmp_path):
    assert "set max_steps" in raised(ValueError, lambda: trainer(tmp_path, max_steps=-1))


def test_epochs_are_counted_in_whole_passes_over_the_prompts(tmp_path):
    seen = []

    def reward(completions, answer, **columns):
        seen.extend(answer)
        return ones(completions)

    run = trainer(tmp_path, rows=clues(6), reward=reward, max_steps=-1, num_train_epochs=2)
    run.train()
    assert run.state.global_step == 6 and run.state.max_steps == 6 and run.state.epoch == 2
    assert Counter(seen) == {answer: 2 * 4 for answer in range(6)}
    assert [line["epoch"] for line in lines(tmp_path)[:3]] == pytest.approx([1 / 3, 2 / 3, 1])


def test_max_steps_wins_over_epochs(tmp_path):
    run = trainer(tmp_path, rows=clues(6), max_steps=4, num_train_epochs=9)
    run.train()
    assert run.state.global_step == 4 and run.state.epoch == pytest.approx(4 / 3)


def test_the_state_of_the_trainer_reaches_the_reward(tmp_path):
    steps = []

    def reward(completions, trainer_state, **columns):
        steps.append(trainer_state.global_step)
        return ones(completions)

    trainer(tmp_path, reward=reward, gradient_accumulation_steps=2, per_device_train_batch_size=4).train()
    assert steps == [0, 1, 2, 3]


def test_async_rewards_run_together(tmp_path):
    running, most = [], []

    async def slow(completions, **columns):
        running.append(1)
        await asyncio.sleep(0.01)
        most.append(len(running))
        running.pop()
        return ones(completions)

    async def other(completions, **columns):
        return await slow(completions)

    trainer(tmp_path, reward=[slow, other], max_steps=2).train()
    logged = lines(tmp_path)[0]
    assert most[0] == 2
    assert logged["rewards/slow/mean"] == logged["rewards/other/mean"] == pytest.approx(logged["reward"] / 2)


def test_a_list_of_rewards_has_weights(tmp_path):
    trainer(tmp_path, reward=[ones, twos], reward_weights=[1.0, 0.25], max_steps=1).train()
    logged = lines(tmp_path)[0]
    assert logged["reward"] == pytest.approx(logged["rewards/ones/mean"] + 0.5)


def test_the_number_of_weights_must_fit(tmp_path):
    message = raised(ValueError, lambda: trainer(tmp_path, reward=[ones, twos], reward_weights=[1.0]))
    assert "1 weights for 2 rewards" in message


def test_a_sequence_classifier_is_a_reward(tmp_path):
    words = tokenizer()
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    settings = BertConfig(vocab_size=len(words), num_labels=1, **sizes)
    judge = BertForSequenceClassification(settings)
    run = trainer(
        tmp_path,
        text_policy(words),
        judge,
        [{"prompt": "the cat"}],
        processing_class=words,
        reward_processing_classes=words,
        max_completion_length=3,
        max_steps=1,
    )
    run.train()
    assert "rewards/BertForSequenceClassification/mean" in lines(tmp_path)[0]


def test_the_first_step_on_a_collection_has_ratio_one_and_no_clipping(tmp_path):
    trainer(tmp_path, max_steps=4, num_iterations=2, learning_rate=0.1).train()
    ratios = [line["ratio"] for line in lines(tmp_path) if "ratio" in line]
    assert ratios[0] == pytest.approx(1, abs=1e-5) and ratios[2] == pytest.approx(1, abs=1e-5)
    assert abs(ratios[1] - 1) > 1e-3 and abs(ratios[3] - 1) > 1e-3


def test_iterations_use_a_collection_again(tmp_path):
    asked = []

    def reward(completions, **columns):
        asked.append(len(completions))
        return ones(completions)

    trainer(tmp_path, reward=reward, num_iterations=2, steps_per_generation=2, max_steps=8).train()
    assert asked == [16, 16]


def test_regrouped_accumulation_changes_neither_loss_nor_weights(tmp_path):
    made = []
    for micro, accumulation in ((16, 1), (8, 2), (2, 8)):
        folder = tmp_path / str(micro)
        sizes = {"per_device_train_batch_size": micro, "gradient_accumulation_steps": accumulation}
        run = trainer(folder, rows=clues(), beta=0.05, path_kl_coef=0.01, learning_rate=0.01, max_steps=3, **sizes)
        run.train()
        made.append((weights(run.model), [line["loss"] for line in lines(folder) if "loss" in line]))
    for others, losses in made[1:]:
        assert losses == pytest.approx(made[0][1], abs=1e-4)
        for name, tensor in others.items():
            assert torch.allclose(tensor, made[0][0][name], atol=1e-4), name


def test_gradients_are_clipped(tmp_path):
    moves = []
    for clip in (0.0, 1e-3):
        model = policy()
        before = weights(model.network)
        optimizer = torch.optim.SGD(model.network.parameters(), lr=1.0)
        options = {"max_grad_norm": clip, "max_steps": 1, "optimizers": (optimizer, None)}
        trainer(tmp_path / str(clip), model, **options).train()
        moves.append(
            math.sqrt(sum(float((model.network.state_dict()[n] - w).square().sum()) for n, w in before.items()))
        )
    logged = [lines(tmp_path / name)[0]["grad_norm"] for name in ("0.0", "0.001")]
    assert logged[0] == pytest.approx(logged[1], rel=1e-4) and logged[0] > 0.1
    assert moves[0] == pytest.approx(logged[0], rel=1e-3) and moves[1] == pytest.approx(1e-3, rel=1e-2)


def test_half_precision_runs_and_keeps_the_loss_in_full_precision(tmp_path):
    run = trainer(tmp_path, bf16=True, max_steps=3, beta=0.05)
    run.train()
    logged = lines(tmp_path)
    assert all(math.isfinite(line["loss"]) for line in logged[:3])
    assert logged[0]["ratio"] == pytest.approx(1, abs=0.05)
    assert {weight.dtype for weight in run.model.parameters()} == {torch.float32}


def test_gradient_checkpointing_gives_the_same_loss(tmp_path):
    made = []
    for on in (False, True):
        run = trainer(tmp_path / str(on), gradient_checkpointing=on, max_steps=3, beta=0.05)
        run.train()
        made.append([line["loss"] for line in lines(tmp_path / str(on))[:3]])
    assert made[0] == pytest.approx(made[1], abs=1e-5)


def test_training_again_begins_a_new_run(tmp_path):
    run = trainer(tmp_path, rows=clues(), max_steps=3, save_strategy="steps", save_steps=2)
    run.train()
    first = weights(run.model)
    run.train()
    assert not same(weights(run.model), first)
    assert [line["step"] for line in lines(tmp_path)] == [1, 2, 3, 3]
    assert len(list((tmp_path / "earlier-000").iterdir())) > 1


def test_rewards_of_none_alone_leave_the_weights(tmp_path):
    model = policy()
    before = weights(model.network)
    trainer(tmp_path, model, reward=lambda completions, **columns: [None] * len(completions)).train()
    assert same(weights(model.network), before)
    assert lines(tmp_path)[0]["frac_reward_none"] == 1 and lines(tmp_path)[0]["loss"] == 0


def test_a_fixed_part_of_the_canvas_never_changes(tmp_path):
    seen = []

    def reward(completions, tokens, **columns):
        seen.extend(completion[:2].tolist() == given[:2] for completion, given in zip(completions, tokens, strict=True))
        return ones(completions)

    trainer(tmp_path, rows=clues(), reward=reward).train()
    assert len(seen) == 32 and all(seen)


def test_the_default_objects_are_those_of_the_paper(tmp_path):
    run = trainer(tmp_path)
    assert run.collector.sampler == FirstHitting() and run.objective.weight == ScoreClip(0.2)
    assert trainer(tmp_path, reading="fresh_masks").objective.reading == FreshMasks(2)


def _length(completions, **columns):
    return [float(len(completion)) for completion in completions]

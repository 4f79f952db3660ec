"""SEPOTrainer: it learns, and what people know from transformers and TRL works."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from dataclasses import dataclass, field

import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification, TrainerCallback
from transformers.integrations import integration_utils

from sepo.diffusion.denoiser import evaluating
from sepo.objectives import SEPO, Advantage, AllSites, FreshMasks, PPOClip, ScoreClip
from sepo.objectives.advantages import leave_one_out, unit
from sepo.rewards import Rewards
from sepo.runs import RunFolder, completion_steps, read_completions
from sepo.samplers import Ancestral, FirstHitting
from sepo.training import Frozen
from tests.training.toys import (
    CLOCK,
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


@dataclass
class Recorder(TrainerCallback):
    events: list[str] = field(default_factory=list)

    def on_train_begin(self, args, state, control, **kwargs):
        self.events.append("begin")

    def on_step_end(self, args, state, control, **kwargs):
        self.events.append(f"step {state.global_step}")
        control.should_training_stop = state.global_step == 2

    def on_log(self, args, state, control, logs, **kwargs):
        self.events.append("summary" if "train_loss" in logs else f"reward {logs['reward']:.0f}")

    def on_train_end(self, args, state, control, **kwargs):
        self.events.append("end")


def test_callbacks_see_and_steer_the_run(tmp_path):
    recorder = Recorder()
    trainer(tmp_path, reward=_two, callbacks=[recorder]).train()
    assert recorder.events == ["begin", "step 1", "reward 2", "step 2", "reward 2", "summary", "end"]


def test_integrations_that_report_get_every_log_line(tmp_path, monkeypatch):
    reported = []

    class Board(TrainerCallback):
        def on_log(self, args, state, control, logs, **kwargs):
            reported.append(logs)

    monkeypatch.setitem(integration_utils.INTEGRATION_TO_CALLBACK, "board", Board)
    trainer(tmp_path, report_to=["board"], max_steps=2).train()
    assert [logs["reward"] for logs in reported[:2]] == [line["reward"] for line in lines(tmp_path)[:2]]
    trainer(tmp_path, max_steps=1).train()
    assert len(reported) == 3


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
    trainer(tmp_path, reward=[ones, _two], reward_weights=[1.0, 0.25], max_steps=1).train()
    logged = lines(tmp_path)[0]
    assert logged["reward"] == pytest.approx(logged["rewards/ones/mean"] + 0.5)


def test_the_number_of_weights_must_fit(tmp_path):
    message = raised(ValueError, lambda: trainer(tmp_path, reward=[ones, _two], reward_weights=[1.0]))
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


def test_completions_are_kept_as_parquet(tmp_path):
    pytest.importorskip("pyarrow")

    def reward(completions, answer, log_extra, **columns):
        log_extra("twice", [2 * value for value in answer])
        return [None if value == 0 else float(value) for value in answer]

    trainer(tmp_path, rows=clues(), reward=reward, shuffle_dataset=False, logging_steps=2).train()
    folder = RunFolder(tmp_path)
    assert completion_steps(folder) == [2, 4]
    table = read_completions(folder, 2)  # prompts 2 and 3
    assert len(table) == 8 and table.prompts[0] == [2, 1, -1, -1, -1, -1]
    assert table.rewards["reward"] == [2.0] * 4 + [3.0] * 4 and table.extras["twice"] == [4] * 4 + [6] * 4
    assert table.advantages == [0.0] * 8
    assert read_completions(folder, 4).step == 4


def test_completions_are_shown_when_they_are_asked_for(tmp_path, capsys):
    trainer(tmp_path, max_steps=1, log_completions=True, num_completions_to_print=2, save_completions=False).train()
    shown = capsys.readouterr().out
    assert "Completion" in shown and "ones" in shown and "Step 1" in shown
    assert not (tmp_path / "completions").exists()


def test_log_lines_hold_the_names_of_trl_and_the_cost(tmp_path):
    trainer(tmp_path, beta=0.05).train()
    logged = lines(tmp_path, clock=True)
    assert {
        *("loss", "grad_norm", "learning_rate", "epoch", "step", "step_time"),
        *("reward", "reward_std", "rewards/ones/mean", "rewards/ones/std", "frac_reward_zero_std", "kl", "entropy"),
        *("clip_ratio/low_mean", "clip_ratio/high_mean", "clip_ratio/region_mean", "completions/mean_length"),
        *("network_evaluations", "network_evaluations_with_gradient"),
    } <= set(logged[0])
    # per step 8 sequences: 6 states sampled, 6 read by the reference, 2 with gradient
    assert [line["network_evaluations"] for line in logged[:2]] == [8 * 14, 2 * 8 * 14]
    assert [line["network_evaluations_with_gradient"] for line in logged[:2]] == [8 * 2, 2 * 8 * 2]
    assert set(CLOCK) <= set(logged[0]) | set(logged[-1])


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


def lora(**options):
    peft = pytest.importorskip("peft")
    return peft.LoraConfig(target_modules=["qkv", "out"], r=4, **options)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_lora_trains_the_adapters_alone_with_the_adapters_off_as_reference(tmp_path, checkpointing):
    settings = lora(lora_dropout=0.1)
    run = trainer(
        tmp_path, beta=0.05, peft_config=settings, learning_rate=0.05, gradient_checkpointing=checkpointing, max_steps=3
    )
    before = weights(run.model)
    run.train()
    changed = {name for name, weight in run.model.state_dict().items() if not torch.equal(weight, before[name])}
    assert changed and all("lora_" in name for name in changed)
    logged = lines(tmp_path)
    assert logged[0]["kl"] == pytest.approx(0, abs=1e-5) and abs(logged[2]["kl"]) > 1e-4


def test_adapters_are_saved_resumed_and_opened(tmp_path):
    from sepo import load

    options = {"beta": 0.05, "learning_rate": 0.05, "save_strategy": "steps", "save_steps": 2}
    whole = trainer(tmp_path / "whole", peft_config=lora(), **options)
    whole.train()
    again = trainer(tmp_path / "whole", peft_config=lora(), **options)
    again.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-2"))
    assert same(weights(again.model), weights(whole.model))
    opened = load(tmp_path / "whole" / "checkpoint-4")
    noise = torch.tensor([[4, 1, 4, 4, 2, 4]])
    with torch.no_grad(), evaluating(opened.network), evaluating(whole.policy.network):
        assert torch.allclose(opened.logits(noise, torch.ones(1)), whole.policy.logits(noise, torch.ones(1)), atol=1e-6)


def test_training_again_begins_a_new_run(tmp_path):
    run = trainer(tmp_path, rows=clues(), max_steps=3, save_strategy="steps", save_steps=2)
    run.train()
    first = weights(run.model)
    run.train()
    assert not same(weights(run.model), first)
    assert [line["step"] for line in lines(tmp_path)] == [1, 2, 3, 3]
    assert len(list((tmp_path / "earlier-000").iterdir())) > 1


def test_the_settings_are_kept_in_the_folder(tmp_path):
    from sepo.runs import read_config

    trainer(tmp_path, beta=0.05, max_steps=1).train()
    settings = read_config(RunFolder(tmp_path))
    assert settings["beta"] == 0.05 and settings["num_generations"] == 4


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


def _two(completions, **columns):
    return [2.0] * len(completions)


def _length(completions, **columns):
    return [float(len(completion)) for completion in completions]

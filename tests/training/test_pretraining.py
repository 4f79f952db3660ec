"""Pretraining and supervised fine-tuning: the bound falls, the average is kept, a killed run goes on."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import TrainerCallback

from sepo import load
from sepo.diffusion.canvas import Canvas
from sepo.training import PretrainConfig, PretrainTrainer
from tests.training.toys import (
    bert,
    lines,
    optimizer_state,
    policy,
    pretrainer,
    raised,
    same,
    sequences,
    text_policy,
    tokenizer,
    uniform_policy,
    weights,
)

SAVING = {"save_strategy": "steps", "save_steps": 2}


def bounds(folder: Path) -> list[float]:
    return [line["eval_bound"] for line in lines(folder) if "eval_bound" in line]


@pytest.mark.parametrize("model", [policy, uniform_policy, lambda: policy(time_conditioning=True)])
def test_the_held_out_bound_falls(tmp_path, model):
    watched = {"eval_dataset": sequences(24), "eval_strategy": "steps", "eval_steps": 15, "eval_on_start": True}
    pretrainer(tmp_path, model(), max_steps=30, learning_rate=0.03, logging_steps=15, ema=0.9, **watched).train()
    found = bounds(tmp_path)
    assert len(found) == 3 and found[2] < found[0] - 0.05
    assert lines(tmp_path)[-2]["eval_perplexity"] == pytest.approx(math.exp(found[2]))


def test_at_the_end_the_weights_are_the_averaged_ones(tmp_path):
    run = pretrainer(tmp_path, ema=0.5, **SAVING)
    run.train()
    raw = load_file(tmp_path / "checkpoint-6" / "model.safetensors")
    average = load_file(tmp_path / "checkpoint-6" / "ema.safetensors")
    assert not same(raw, average)
    assert same(weights(run.policy.network), average)


def test_the_average_is_that_of_its_formula(tmp_path):
    states = []

    class Watch(TrainerCallback):
        def on_step_end(self, args, state, control, model=None, **kwargs):
            states.append(weights(model))

    model = policy()
    expected = weights(model.network)
    run = pretrainer(tmp_path, model, ema=0.6, max_steps=4, callbacks=[Watch()])
    run.train()
    for step, state in enumerate(states, start=1):
        decay = min(0.6, (1 + step) / (10 + step))
        expected = {name: decay * kept + (1 - decay) * state[name] for name, kept in expected.items()}
    for name, weight in run.policy.network.state_dict().items():
        assert torch.allclose(weight, expected[name], atol=1e-6), name


def test_without_an_average_the_weights_are_the_last_ones(tmp_path):
    run = pretrainer(tmp_path, ema=None, **SAVING)
    run.train()
    assert same(weights(run.policy.network), load_file(tmp_path / "checkpoint-6" / "model.safetensors"))
    assert not (tmp_path / "checkpoint-6" / "ema.safetensors").exists()


class Killed(Exception):
    pass


class Kill(TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == 5:
            raise Killed


@pytest.mark.parametrize(
    "case",
    [
        {"logging_steps": 3},
        {"model": uniform_policy},
        {"max_steps": -1, "num_train_epochs": 4, "gradient_accumulation_steps": 2},
        {"dropout": 0.2},
        {"ema": None, "draws": 2},
    ],
)
def test_a_killed_run_goes_on_bit_for_bit(tmp_path, case):
    def made(folder, **more):
        options = {**case, **SAVING, **more}
        model = options.pop("model", policy)()
        if "dropout" in options:
            model = policy(dropout=options.pop("dropout"))
        return pretrainer(folder, model, **options)

    whole = made(tmp_path / "whole")
    whole.train()
    with pytest.raises(Killed):
        made(tmp_path / "killed", callbacks=[Kill()]).train()
    resumed = made(tmp_path / "killed")
    resumed.train(resume_from_checkpoint=True)
    assert same(weights(whole.policy.network), weights(resumed.policy.network))
    last = f"checkpoint-{whole.state.global_step}"
    for name in ("model.safetensors", *([] if whole.average is None else ["ema.safetensors"])):
        one, other = (tmp_path / folder / last / name for folder in ("whole", "killed"))
        assert one.read_bytes() == other.read_bytes()
    assert same(optimizer_state(tmp_path / "whole" / last), optimizer_state(tmp_path / "killed" / last))
    assert lines(tmp_path / "whole") == lines(tmp_path / "killed")


def test_a_finished_run_stays_finished(tmp_path):
    run = pretrainer(tmp_path, **SAVING)
    run.train()
    again = pretrainer(tmp_path, **SAVING)
    again.train(resume_from_checkpoint=True)
    assert again.state.global_step == 6
    assert same(weights(again.policy.network), weights(run.policy.network))


def test_there_must_be_something_to_resume_from(tmp_path):
    run = pretrainer(tmp_path)
    assert "no complete checkpoint" in raised(ValueError, lambda: run.train(resume_from_checkpoint=True))


def test_a_checkpoint_without_an_average_is_not_resumed_with_one(tmp_path):
    pretrainer(tmp_path, ema=None, **SAVING).train()
    run = pretrainer(tmp_path)
    assert "ema.safetensors" in raised(ValueError, lambda: run.train(resume_from_checkpoint=True))


def test_the_best_weights_are_the_averaged_ones_of_the_best_checkpoint(tmp_path):
    watched = {"eval_dataset": sequences(8), "eval_strategy": "steps", "eval_steps": 2}
    best = {"load_best_model_at_end": True, "metric_for_best_model": "bound", "greater_is_better": False}
    run = pretrainer(tmp_path, learning_rate=0.3, **watched, **best, **SAVING)
    run.train()
    best = run.state.best_global_step
    assert best == 2 * (1 + bounds(tmp_path).index(min(bounds(tmp_path))))
    assert same(weights(run.policy.network), load_file(tmp_path / f"checkpoint-{best}" / "ema.safetensors"))


def test_a_checkpoint_opens_as_a_model(tmp_path):
    run = pretrainer(tmp_path, uniform_policy(), **SAVING)
    run.train()
    opened = load(tmp_path / "checkpoint-6")
    assert opened.process == run.policy.process and not opened.time_free
    run.save_model()
    assert same(weights(load(tmp_path).network), weights(run.policy.network))


def test_text_is_learned_and_padding_is_not(tmp_path):
    words = tokenizer()
    data = [{"text": "the cat sat on a mat"}, {"text": "a dog ran"}]
    run = pretrainer(tmp_path, text_policy(words), data, processing_class=words, max_steps=2)
    canvas = Canvas(**run.data_collator(data))
    assert canvas.free.int().tolist() == [[1] * 6, [1, 1, 1, 0, 0, 0]]
    assert canvas.attend is not None and torch.equal(canvas.attend, canvas.free)
    run.train()
    assert math.isfinite(lines(tmp_path)[0]["loss"])


@pytest.mark.parametrize("chat", [False, True])
def test_in_supervised_fine_tuning_the_prompt_is_never_corrupted(tmp_path, chat):
    words = tokenizer(chat=chat)
    prompt, answer = "the cat", "sat on a mat"
    given = words(prompt)["input_ids"]
    if chat:
        asked, answered = {"role": "user", "content": prompt}, {"role": "assistant", "content": answer}
        data = [{"prompt": [asked], "completion": [answered]}]
        given = words("user : the cat assistant :")["input_ids"]
    else:
        data = [{"prompt": prompt, "completion": answer}]
    data = [*data, *data]
    seen = []

    model = text_policy(words)
    call = model.call

    def watched(network, xt, sigma, attend, sites):
        seen.append(xt.clone())
        return call(network, xt, sigma, attend, sites)

    run = pretrainer(tmp_path, replace(model, call=watched), data, processing_class=words, max_steps=8, draws=2)
    run.train()
    states = torch.cat(seen)
    assert (states[:, : len(given)] == torch.tensor(given)).all()
    answers = states[:, len(given) :]
    assert answers.shape[1] == 5 and (answers == words.mask_token_id).any(0).all()
    whole = Canvas(**run.data_collator(data[:1]))
    assert whole.tokens[0].tolist() == [*given, *words(answer)["input_ids"], words.eos_token_id]


def test_supervised_fine_tuning_learns_the_answer(tmp_path):
    words = tokenizer()
    data = [{"prompt": "the cat", "completion": "sat"}, {"prompt": "the dog", "completion": "ran"}]
    run = pretrainer(
        tmp_path, text_policy(words), data, processing_class=words, max_steps=40, learning_rate=0.05, logging_steps=10
    )
    run.train()
    losses = [line["loss"] for line in lines(tmp_path) if "loss" in line]
    assert losses[0] > 0.7 and losses[-1] < 0.4


def test_a_masked_language_model_is_pretrained_too(tmp_path):
    words = tokenizer()
    network = bert(words)
    args = PretrainConfig(str(tmp_path), max_steps=2, disable_tqdm=True, use_cpu=True, save_strategy="no")
    run = PretrainTrainer(network, args, [{"text": "the cat sat"}] * 4, processing_class=words)
    run.train()
    assert run.state.global_step == 2


def test_a_dictionary_of_held_out_data_is_evaluated_by_name(tmp_path):
    run = pretrainer(tmp_path, eval_dataset={"a": [{"tokens": [0] * 6}], "b": [{"tokens": [1, 2, 3, 0, 1, 2]}]})
    metrics = run.evaluate()
    assert {"eval_a_bound", "eval_b_bound"} <= set(metrics)


def test_the_evaluation_draws_the_same_every_time(tmp_path):
    run = pretrainer(tmp_path, eval_dataset=sequences(8))
    assert run.evaluate()["eval_bound"] == run.evaluate()["eval_bound"]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ([], "train_dataset is empty"),
        ([{"tokens": [0, 1, 9, 1, 2, 3]}], "tokens 0 to 9, but the model has ids 0 to 4"),
        ([{"tokens": [0, 1, -1, 1, 2, 3]}], "tokens -1 to 3"),
        ([{"tokens": [0, 1, 4, 1, 2, 3]}], "hold the mask id 4 at a site that is learned"),
        ([{"tokens": [0] * 7}], "have 7 tokens, but the model takes 1 to 6"),
        ([{"tokens": [0] * 6}, {"tokens": [0] * 5}], "one length, but found [5, 6]"),
        ([{"tokens": [0] * 6, "free": [True] * 5}], "'free' has the shape [1, 5]"),
        ([{"image": 1}], "columns ['image']; they need 'tokens', 'text'"),
        ([{"text": "the cat"}], "pass processing_class"),
    ],
)
def test_data_that_do_not_fit_are_refused_with_a_remedy(tmp_path, data, words):
    assert words in raised(ValueError, lambda: pretrainer(tmp_path, data=data).train())


def test_a_prompt_that_leaves_no_room_for_its_completion_is_named(tmp_path):
    words = tokenizer()
    data = [{"prompt": "the cat sat on", "completion": "a mat"}]
    run = pretrainer(tmp_path, text_policy(words, length=4), data, processing_class=words)
    message = raised(ValueError, run.train)
    assert "'the cat sat on' has 4 tokens" in message and "4 sites" in message


def test_a_mask_that_is_given_is_no_data(tmp_path):
    data = [{"tokens": [0, 1, 4, 1, 2, 3], "free": [True, True, False, True, True, True]}]
    pretrainer(tmp_path, data=data, max_steps=1).train()

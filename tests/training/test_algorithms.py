"""Every published method in the trainer, by its name."""

from __future__ import annotations

import math

import pytest

from sepo.objectives.algorithms import ALGORITHMS
from sepo.objectives.espo import Espo
from sepo.samplers import LeftToRight
from tests.training.toys import clues, config, lines, raised, trainer, uniform_policy


@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_method_trains(tmp_path, name):
    options = {"algorithm_kwargs": {"kl_coef": 0.1}} if name in ("diffu_grpo", "espo", "coupled_grpo") else {}
    run = trainer(tmp_path, algorithm=name, max_steps=2, logging_steps=1, states=16, num_iterations=2, **options)
    run.train()
    seen = [line for line in lines(tmp_path) if "loss" in line]
    assert len(seen) == 2 and "reward" in seen[0] and all("grad_norm" in line for line in seen)
    wrong = {name for line in seen for name, value in line.items() if not math.isfinite(value)}
    assert not wrong, wrong
    assert any(line["grad_norm"] > 0 for line in seen)


def test_a_method_can_be_given_as_an_object(tmp_path):
    run = trainer(tmp_path, algorithm=Espo(pairs=1, epsilon=0.3))
    assert run.objective == Espo(pairs=1, epsilon=0.3).objective()


def test_a_method_brings_the_sampler_and_the_price_of_a_nat_that_it_needs(tmp_path):
    assert isinstance(trainer(tmp_path, algorithm="just_grpo", states=16).collector.sampler, LeftToRight)
    run = trainer(tmp_path, algorithm="wdce", algorithm_kwargs={"beta": 0.3}, states=16)
    assert run.collector.control.beta == 0.3 and run.reference is not None


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"algorithm": "grpo"}, "algorithm='grpo': choose one of sepo, trajectory_pg"),
        ({"algorithm": "espo", "algorithm_kwargs": {"clip": 1}}, "'clip', which espo does not have"),
        ({"algorithm": "espo", "epsilon": 0.3}, "epsilon=0.3 is an option of sepo"),
        ({"algorithm_kwargs": {"epsilon": 0.3}}, "the options of sepo are those of the configuration"),
        ({"algorithm": "just_grpo", "sampler": "ancestral"}, "JustGRPO reads rollouts of the sampler 'left_to_right'"),
        ({"reading": "transitions"}, "FirstHitting has none"),
        ({"reading": "next_site", "sampler": "remdm"}, "reading='next_site' is of paths that fill each mask once"),
        ({"sampler": "remdm", "sampler_kwargs": {"nu": 1}}, "sampler_kwargs holds 'nu', which remdm does not have"),
    ],
)
def test_options_that_do_not_fit_are_refused(tmp_path, options, words):
    assert words in raised(ValueError, lambda: config(tmp_path, **{"states": 16, **options}))


def test_a_reading_of_masks_is_refused_for_a_process_without_them(tmp_path):
    message = raised(ValueError, lambda: trainer(tmp_path, uniform_policy(), reading="next_site"))
    assert "reading='next_site' is of masked sites, but the model's process is Uniform" in message


@pytest.mark.parametrize(
    "options",
    [
        {"sampler": "predictor_corrector", "sampling_steps": 3, "beta": 0.05},
        {"sampler": "remdm", "sampling_steps": 4, "sampler_kwargs": {"eta": 0.3}},
        {"sampler": "gibbs", "reading": "fresh_masks"},
    ],
)
def test_rollouts_with_correctors_train(tmp_path, options):
    run = trainer(tmp_path, max_steps=2, **options)
    run.train()
    assert all(math.isfinite(line["loss"]) for line in lines(tmp_path) if "loss" in line)


@pytest.mark.parametrize("reading", [None, "fresh_noise", "clean_score"])
def test_a_uniform_process_trains(tmp_path, reading):
    run = trainer(tmp_path, uniform_policy(), max_steps=2, reading=reading, sampling_steps=4, delta=2.0, beta=0.02)
    run.train()
    assert all(math.isfinite(line["loss"]) for line in lines(tmp_path) if "loss" in line)


def test_pairs_that_a_micro_batch_tears_apart_are_refused(tmp_path):
    options = {"algorithm": "vrpo", "states": 16, "per_device_train_batch_size": 9, "num_generations": 3}
    message = raised(ValueError, lambda: trainer(tmp_path, rows=clues(), **options))
    assert "per_device_train_batch_size=9, num_generations=3" in message and "compares 2 sequences" in message


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"algorithm": "espo", "model": uniform_policy(), "sampling_steps": 3}, "Espo reads masked sites, but the mod"),
        ({"algorithm": "step_merge", "sampler": "gibbs"}, "StepMerge reads paths that fill each mask once, but Gibbs"),
        ({"algorithm": "wdce", "beta": 0.1, "target_kl": 0.5}, "target_kl=0.5 moves beta, but Wdce prices nats itself"),
    ],
)
def test_a_method_is_refused_what_it_cannot_read_or_hold(tmp_path, options, words):
    assert words in raised(ValueError, lambda: trainer(tmp_path, states=16, **options))


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("wdce", {"beta": 0.0}, "beta=0.0: must be above 0"),
        ("trajectory_balance", {"beta": -0.1}, "beta=-0.1: must be above 0"),
        ("wd1", {"psi": 0.0}, "psi=0.0: must be above 0"),
        ("vrpo", {"masks": 0}, "states=0: at least 1 state"),
        ("sdpo", {"together": 1}, "together=1: a sequence alone"),
        ("sdpo", {"temperature": 0.0}, "temperature=0.0: must be above 0"),
        ("spg", {"omega": 1.5}, "omega=1.5: is the share of the upper bound"),
        ("diffu_grpo", {"prompt_mask": 2.0}, "prompt=2.0"),
        ("espo", {"kl_coef": -0.1}, "kl_coef=-0.1: must not be negative"),
    ],
)
def test_options_that_make_no_loss_are_refused_before_anything_is_drawn(tmp_path, name, options, words):
    assert words in raised(ValueError, lambda: config(tmp_path, algorithm=name, algorithm_kwargs=options, states=16))


def test_two_prices_of_a_nat_are_refused(tmp_path):
    message = raised(ValueError, lambda: trainer(tmp_path, algorithm="wdce", beta=0.5, states=16))
    assert "beta=0.5: Wdce prices nats itself, at 0.1" in message

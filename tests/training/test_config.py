"""The door: strings become objects there, and what makes no sense is refused there."""

from __future__ import annotations

import json

import pytest

from sepo import SEPOConfig
from sepo.objectives import (
    SEPO,
    AllSites,
    EntropyBonus,
    FreshMasks,
    NextSite,
    PathKL,
    PPOClip,
    ScoreClip,
    Total,
    Unclipped,
)
from sepo.objectives.advantages import batch, group, leave_one_out, mean, none, unit
from sepo.objectives.levels import step
from sepo.samplers import Ancestral, FirstHitting, TauLeaping
from sepo.training import PretrainConfig
from sepo.training.building import build_advantage, build_objective, build_sampler
from tests.training.toys import config, raised


def test_the_defaults_are_sepo_along_the_path_of_first_hitting(tmp_path):
    made = SEPOConfig(str(tmp_path), use_cpu=True)
    assert build_sampler(made) == FirstHitting()
    assert build_objective(made) == SEPO(NextSite(16), ScoreClip(0.2))
    advantage = build_advantage(made)
    assert (advantage.baseline, advantage.scale) == (mean, group)


@pytest.mark.parametrize(
    ("options", "made"),
    [
        ({"sampler": "ancestral", "sampling_steps": 8}, Ancestral(8)),
        ({"sampler": "tau_leaping"}, TauLeaping(128)),
        ({"sampling_steps": 16}, FirstHitting(16)),
    ],
)
def test_strings_choose_the_sampler(tmp_path, options, made):
    assert build_sampler(config(tmp_path, **options)) == made


@pytest.mark.parametrize(
    ("options", "made"),
    [
        ({"reading": "all_sites", "states": None}, SEPO(AllSites(None))),
        ({"reading": "fresh_masks", "states": 3}, SEPO(FreshMasks(3))),
        ({"weight": "ppo", "epsilon": 0.1, "epsilon_high": 0.3}, SEPO(NextSite(2), PPOClip(0.1, 0.3))),
        ({"weight": "unclipped"}, SEPO(NextSite(2), Unclipped())),
        ({"importance_sampling_level": "step"}, SEPO(NextSite(2), ScoreClip(), level=step)),
        ({"delta": 2.0}, SEPO(NextSite(2), ScoreClip(0.2, None, 2.0))),
        ({"path_kl_coef": 0.1}, Total(SEPO(NextSite(2)), ((0.1, PathKL()),))),
        (
            {"path_kl_coef": 0.1, "entropy_coef": 0.2},
            Total(SEPO(NextSite(2)), ((0.1, PathKL()), (0.2, EntropyBonus()))),
        ),
    ],
)
def test_strings_choose_the_objective(tmp_path, options, made):
    assert build_objective(config(tmp_path, **options)) == made


def test_scale_rewards_may_be_a_truth_value_as_in_trl(tmp_path):
    for value, scale in ((True, group), (False, unit), ("batch", batch), ("none", unit)):
        made = config(tmp_path)
        made.scale_rewards = value
        assert build_advantage(made).scale is scale
    for value, baseline in (("leave_one_out", leave_one_out), ("none", none)):
        assert build_advantage(config(tmp_path, baseline=value)).baseline is baseline


@pytest.mark.parametrize(
    ("option", "value", "known"),
    [
        (
            "sampler",
            "semi_autoregressive",
            "first_hitting, left_to_right, ancestral, tau_leaping, predictor_corrector, remdm, gibbs, confidence, dplm",
        ),
        ("reading", "next-site", "next_site, all_sites, fresh_masks"),
        ("weight", "grpo", "score, ppo, unclipped"),
        ("importance_sampling_level", "sequence", "token, step"),
        ("baseline", "median", "mean, leave_one_out, none"),
        ("scale_rewards", "std", "group, batch, none"),
        ("non_finite_rewards", "zero", "'raise' or 'none'"),
    ],
)
def test_an_unknown_string_is_answered_with_the_known_ones(tmp_path, option, value, known):
    message = raised(ValueError, lambda: config(tmp_path, **{option: value}))
    assert f"{option}={value!r}" in message and known in message


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"beta": -0.1}, "beta=-0.1"),
        ({"path_kl_coef": -0.1}, "path_kl_coef=-0.1"),
        ({"epsilon": 1.5}, "epsilon=1.5"),
        ({"delta": 1.1}, "delta=1.1"),
        ({"states": 0}, "states=0"),
        ({"reading": "fresh_masks", "states": None}, "states=None"),
        ({"sampling_steps": 0}, "steps=0"),
        ({"max_completion_length": 0}, "max_completion_length=0"),
        ({"num_generations_eval": 0}, "num_generations_eval=0"),
        ({"ignore_data_skip": True}, "ignore_data_skip=True"),
        ({"fsdp": "full_shard"}, "fsdp is not supported"),
        ({"deepspeed": "zero3.json"}, "deepspeed is not supported"),
    ],
)
def test_numbers_and_switches_that_make_no_sense_are_refused(tmp_path, options, words):
    assert words in raised(ValueError, lambda: config(tmp_path, **options))


@pytest.mark.parametrize("option", ["FSDP", "DEEPSPEED"])
@pytest.mark.parametrize("kind", [SEPOConfig, PretrainConfig])
def test_sharding_by_the_launcher_is_refused_as_well(tmp_path, monkeypatch, option, kind):
    monkeypatch.setenv(f"ACCELERATE_USE_{option}", "true")
    message = raised(ValueError, lambda: kind(str(tmp_path), use_cpu=True))
    assert option.lower() in message and "DDP" in message and "LoRA" in message


def test_an_unknown_option_is_refused_by_name(tmp_path):
    with pytest.raises(TypeError, match="num_generation"):
        SEPOConfig(str(tmp_path), num_generation=4)


def test_steps_per_generation_follows_the_accumulation(tmp_path):
    assert config(tmp_path, gradient_accumulation_steps=3).steps_per_generation == 3
    assert config(tmp_path, gradient_accumulation_steps=3, steps_per_generation=6).steps_per_generation == 6


def test_parquet_is_written_where_pyarrow_is(tmp_path, monkeypatch):
    pytest.importorskip("pyarrow")
    assert config(tmp_path).save_completions is True
    monkeypatch.setattr("sepo.training.config.find_spec", lambda name: None)
    assert config(tmp_path).save_completions is False
    assert "pyarrow" in raised(ValueError, lambda: config(tmp_path, save_completions=True))


def test_dictionaries_may_come_as_json(tmp_path):
    assert config(tmp_path, model_init_kwargs='{"revision": "main"}').model_init_kwargs == {"revision": "main"}


def test_the_config_is_plain_data(tmp_path):
    assert json.loads(config(tmp_path, beta=0.1).to_json_string())["beta"] == 0.1


@pytest.mark.parametrize(("options", "words"), [({"ema": 1.0}, "ema=1.0"), ({"draws": 0}, "draws=0")])
def test_pretraining_refuses_what_makes_no_sense(tmp_path, options, words):
    assert words in raised(ValueError, lambda: PretrainConfig(str(tmp_path), use_cpu=True, **options))

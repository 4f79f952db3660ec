"""Training with a critic: one module, one forward, ordinary checkpoints."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from sepo import SEPOConfig, load
from sepo.diffusion.likelihood import masked_views
from sepo.diffusion.process import Absorbing, Uniform
from sepo.diffusion.valued import Valued, read_with_value
from sepo.diffusion.views import read
from sepo.models import as_denoiser, innermost
from sepo.models.critic import CRITIC, ActorWithCritic, critic_of, with_critic
from sepo.models.networks.dit import DiT, DiTConfig
from sepo.models.networks.dna_cnn import DnaCnn, DnaCnnConfig
from sepo.models.networks.grid import GridConfig, GridNetwork
from sepo.objectives.gae import generalised_advantage
from sepo.objectives.readings import NextSite
from sepo.ops import Chance
from sepo.training.crediting import ByCritic, path_values
from tests.training.toys import bert, clues, config, lines, ones, policy, raised, same, tokenizer, trainer, weights

CRITICAL = {"use_critic": True, "num_generations": 1}


def collect(run, groups=(0, 1, 2, 3)):
    return run.collector.collect(run.stream.rows(list(groups)), list(groups))


def networks() -> dict[str, nn.Module]:
    words = tokenizer()
    return {
        "transformer": policy().network,
        "dit": DiT(DiTConfig(vocab_size=5, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, cond_dim=8)),
        "dna_cnn": DnaCnn(DnaCnnConfig(vocab_size=5, hidden_size=8)),
        "grid": GridNetwork(GridConfig(vocab_size=5, height=2, width=3, hidden_size=8, num_hidden_layers=1)),
        "masked_lm": bert(words),
    }


@pytest.mark.parametrize("family", networks())
def test_every_family_says_what_its_states_are_worth_in_the_same_forward(family):
    network = networks()[family]
    size = innermost(network).config.vocab_size
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        for number, weight in enumerate(network.parameters()):  # some start silent, and would say the same everywhere
            torch.manual_seed(number)
            weight.add_(0.1 * torch.randn(weight.shape))
    plain = as_denoiser(network.eval(), Absorbing(size, mask=1))
    model = with_critic(plain)
    nn.init.normal_(critic_of(model.network).outer.weight)
    x0, free = torch.randint(2, 5, (3, 6)), torch.ones(3, 6, dtype=torch.bool)
    views = masked_views(x0, free, None, plain.process, Chance.of(0, 3), 2)
    before = model.meter.evaluations
    found = read_with_value(model, views, read)
    assert model.meter.evaluations - before == 6
    torch.testing.assert_close(found.log_prob, read(plain, views).log_prob, atol=1e-5, rtol=1e-5)
    whole = read_with_value(model, views, lambda lens, seen: read(lens, seen, whole=True))
    torch.testing.assert_close(found.value, whole.value)
    assert float(found.value.std()) > 1e-3
    assert innermost(model.network) is network


def test_a_critic_starts_at_zero_and_is_the_same_in_every_run():
    first, second = (with_critic(policy(), seed=3) for _ in range(2))
    assert same(weights(first.network), weights(second.network))
    assert not same(weights(first.network), weights(with_critic(policy(), seed=4).network))
    _, values = first.network(torch.randint(0, 5, (2, 6)), torch.ones(2))
    assert (values == 0).all()


def test_without_extra_evaluations_the_target_is_the_return_to_go(tmp_path):
    run = trainer(tmp_path, beta=0.3, **CRITICAL)
    spent = run.policy.meter
    found = collect(run, range(8))
    assert spent.evaluations == 8 * 6 * 2  # the rollout, and the reference along it
    assert torch.equal(found.credit.target[:, 0], found.returns) and found.credit.value is None
    experience = run.collector.experiences(found, 0, 8, stale=False)[0]
    assert experience.old is None and spent.evaluations == 8 * 6 * 2
    stale = run.collector.experiences(found, 0, 8, stale=True)[0]
    assert stale.old.value.shape == (8, 2) and spent.evaluations == 8 * 6 * 2 + 8 * 2


def test_values_of_whole_paths_are_read_once_and_make_generalised_advantages(tmp_path):
    run = trainer(tmp_path, beta=0.3, gae_lambda=0.5, **CRITICAL)
    nn.init.normal_(critic_of(run.policy.network).outer.weight)
    found = collect(run, range(8))
    assert run.policy.meter.evaluations == 8 * 6 * 3
    credit = found.credit
    price = 0.3 * run.collector.log_ratio(found.rollout)
    active = found.rollout.active()
    expected = generalised_advantage(credit.reward, price, credit.value, active, 0.5)
    torch.testing.assert_close(credit.advantage, expected)
    torch.testing.assert_close(credit.target, expected + credit.value)
    spent = run.policy.meter.evaluations
    stale = run.collector.experiences(found, 0, 8, stale=True)[0]  # the rollout's own log-probabilities will do
    assert run.policy.meter.evaluations == spent and stale.old.value is None


def test_the_values_of_a_path_do_not_depend_on_how_many_paths_are_read_at_once(tmp_path):
    run = trainer(tmp_path, gae_lambda=0.5, rows=clues(), **CRITICAL)
    nn.init.normal_(critic_of(run.policy.network).outer.weight)
    rollout = collect(run).rollout
    whole = path_values(run.policy, rollout, NextSite(None))
    parts = torch.cat([path_values(run.policy, rollout[row : row + 1], NextSite(None)) for row in range(len(rollout))])
    torch.testing.assert_close(whole, parts)
    assert (whole[~rollout.active()] == 0).all()


def test_whitened_advantages_have_mean_zero_and_deviation_one(tmp_path):
    run = trainer(tmp_path, whiten_advantages=True, **CRITICAL)
    advantage = collect(run, range(8)).credit.advantage
    assert abs(float(advantage.mean())) < 1e-5 and abs(float(advantage.std(unbiased=False)) - 1) < 1e-4


@pytest.mark.parametrize("more", [{}, {"gae_lambda": 0.5}, {"whiten_advantages": True}])
def test_a_reward_of_none_teaches_nothing(tmp_path, more):
    def sometimes(completions, **columns):
        return [None if index in (0, 5) else value for index, value in enumerate(ones(completions))]

    credit = collect(trainer(tmp_path, reward=sometimes, **CRITICAL, **more), range(8)).credit
    assert (credit.advantage[[0, 5]] == 0).all() and not credit.advantage.isnan().any()
    assert credit.target[[0, 5]].isnan().all() and int(credit.target.isnan().all(1).sum()) == 2


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"gae_lambda": 0.9, "whiten_advantages": True, "num_iterations": 2, "cliprange_value": 0.1, "weight": "ppo"},
        {"reading": "all_sites", "states": None, "path_kl_coef": 0.1},
        {"reading": "fresh_masks", "num_iterations": 2},
        {"sampler": "ancestral", "sampling_steps": 3, "gae_lambda": 0.5, "beta": 0.1},
        {"gradient_checkpointing": True},
        {"bf16": True, "gae_lambda": 0.5},
    ],
    ids=str,
)
def test_actor_and_critic_learn_together(tmp_path, more):
    run = trainer(tmp_path, **CRITICAL, **more)
    before = weights(run.model)
    run.train()
    after = run.model.state_dict()
    assert any(name.startswith("critic") for name in before)
    assert all(not torch.equal(before[name], after[name]) for name in ("critic.outer.weight", "actor.head.weight"))
    assert {"value_loss", "value", "value_clip_ratio"} <= lines(tmp_path)[0].keys()


def test_a_uniform_process_has_values_too(tmp_path):
    model = policy(Uniform(4), vocab_size=4, time_conditioning=True)
    run = trainer(tmp_path, model, sampling_steps=4, gae_lambda=0.5, **CRITICAL)
    run.train()
    assert lines(tmp_path)[0]["value_loss"] > 0


def test_the_error_of_the_values_falls(tmp_path):
    """The policy stands still: the loss that is left is half the variance that the states leave open."""
    model = policy()
    model.network.requires_grad_(False)
    run = trainer(tmp_path, model, max_steps=80, states=None, learning_rate=0.01, **CRITICAL)
    run.train()
    losses = [line["value_loss"] for line in lines(tmp_path) if "value_loss" in line]
    first, last = sum(losses[:5]) / 5, sum(losses[-20:]) / 20
    spread = [line["reward_std"] ** 2 for line in lines(tmp_path) if "reward_std" in line]
    assert last < 0.5 * first and last < 0.5 * sum(spread) / len(spread)


def test_a_checkpoint_is_the_network_as_ever_with_the_critic_beside_it(tmp_path):
    run = trainer(tmp_path, save_strategy="steps", save_steps=4, **CRITICAL)
    run.train()
    folder = tmp_path / "checkpoint-4"
    assert same(load_file(folder / "model.safetensors"), weights(run.policy.network.actor))
    assert same(load_file(folder / CRITIC), weights(run.policy.network.critic))
    plain = load(folder)
    assert not isinstance(plain.network, ActorWithCritic) and not isinstance(plain.call, Valued)
    again = trainer(tmp_path, **CRITICAL)
    again._load_from_checkpoint(str(folder))
    assert same(weights(again.model), weights(run.model))


def test_a_run_without_a_critic_leaves_none_behind(tmp_path):
    run = trainer(tmp_path, **CRITICAL)
    run.save_model(str(tmp_path / "model"))
    assert (tmp_path / "model" / CRITIC).is_file()
    trainer(tmp_path).save_model(str(tmp_path / "model"))
    assert not (tmp_path / "model" / CRITIC).is_file()


def test_a_checkpoint_without_a_critic_is_not_resumed_with_one(tmp_path):
    trainer(tmp_path, save_strategy="steps", save_steps=4).train()
    run = trainer(tmp_path, use_critic=True)
    assert CRITIC in raised(ValueError, lambda: run.train(resume_from_checkpoint=True))


def test_the_best_checkpoint_is_loaded_with_its_critic(tmp_path):
    def falling(completions, trainer_state, **columns):
        return [-float(trainer_state.global_step)] * len(completions)

    run = trainer(
        tmp_path,
        reward=falling,
        eval_dataset=[{}] * 2,
        eval_strategy="steps",
        eval_steps=2,
        save_strategy="steps",
        save_steps=2,
        load_best_model_at_end=True,
        metric_for_best_model="reward",
        **CRITICAL,
    )
    run.train()
    assert same(load_file(tmp_path / "checkpoint-2" / CRITIC), weights(run.policy.network.critic))
    assert same(load_file(tmp_path / "checkpoint-2" / "model.safetensors"), weights(run.policy.network.actor))


def test_adapters_learn_beside_a_critic_and_are_resumed(tmp_path):
    peft = pytest.importorskip("peft")
    settings = {"target_modules": ["qkv", "out"], "r": 2}
    options = {"beta": 0.1, "save_strategy": "steps", "save_steps": 2, **CRITICAL}

    def made(folder):
        return trainer(folder, peft_config=peft.LoraConfig(**settings), **options)

    run = made(tmp_path)
    before = weights(run.model)
    run.train()
    moved = {name for name, weight in run.model.state_dict().items() if not torch.equal(weight, before[name])}
    assert moved == {name for name in before if "lora" in name or name.startswith("critic")}
    assert (tmp_path / "checkpoint-4" / "adapter_model.safetensors").is_file()
    assert (tmp_path / "checkpoint-4" / CRITIC).is_file()
    again = made(tmp_path)
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert same(weights(again.model), weights(run.model))


def test_evaluation_asks_no_critic(tmp_path):
    run = trainer(tmp_path, eval_dataset=[{}] * 4, gae_lambda=0.5, per_device_eval_batch_size=2, **CRITICAL)
    run.evaluate()
    assert run.policy.meter.evaluations == 4 * 6


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"gae_lambda": 0.5}, "gae_lambda=0.5 is an option of a critic"),
        ({"use_critic": True, "baseline": "leave_one_out"}, "baseline='leave_one_out' compares"),
        ({"use_critic": True, "scale_rewards": "none"}, "scale_rewards='none' compares"),
        (
            {"use_critic": True, "algorithm": "espo", "states": SEPOConfig.states},
            "use_critic=True is an option of sepo",
        ),
        ({"use_critic": True, "gae_lambda": 1.5}, "gae_lambda=1.5"),
        ({"use_critic": True, "gae_lambda": 0.5, "reading": "fresh_masks"}, "reading='fresh_masks'"),
        ({"use_critic": True, "whiten_advantages": True, "reading": "merged"}, "reading='merged'"),
        ({"use_critic": True, "vf_coef": -1.0}, "vf_coef=-1.0"),
        ({"target_kl": 1.0}, "beta=0.0"),
        ({"target_kl": 0.0, "beta": 0.1}, "target_kl=0.0"),
        ({"target_kl": 1.0, "beta": 0.1, "kl_gain": 5.0}, "kl_gain=5.0"),
    ],
    ids=str,
)
def test_options_that_contradict_each_other_are_refused_by_name(tmp_path, options, said):
    assert said in raised(ValueError, lambda: config(tmp_path, **options))


def test_values_along_a_path_need_a_reading_of_it():
    assert "NextSite(None)" in raised(ValueError, lambda: ByCritic(gae_lambda=0.9))


def test_a_network_that_shows_no_head_is_named():
    class Headless(type(policy().network)):
        def get_output_embeddings(self):
            return None

    model = policy()
    headless = Headless(model.network.config)
    assert "get_output_embeddings" in raised(ValueError, lambda: with_critic(replace(model, network=headless)))


def test_a_network_of_ones_own_may_bring_its_values(tmp_path):
    model = with_critic(policy())
    run = trainer(tmp_path, model, **CRITICAL)
    assert run.policy.network is model.network


def test_the_reference_beside_a_critic_follows_the_actor(tmp_path):
    run = trainer(
        tmp_path, beta=0.1, sync_ref_model=True, ref_model_mixup_alpha=1.0, ref_model_sync_steps=1, **CRITICAL
    )
    run.train()
    assert same(weights(run.reference.network), weights(run.model))

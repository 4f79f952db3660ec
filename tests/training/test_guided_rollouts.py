"""Rollouts under guidance: for algorithms that read no density, counted, and of no effect on what the policy is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sepo.diffusion.rollout import MaskedPath
from sepo.evaluation.exact import expected_reward
from sepo.evaluation.worlds import World, count, markov_chain, tabular
from sepo.objectives.elite_replay import EliteReplay
from sepo.objectives.sepo import SEPO
from sepo.samplers import Ancestral, Confidence, FirstHitting
from sepo.samplers.guided import SMC, SVDD, TDS, ArgmaxFill, BestOfN, ClassifierFree
from sepo.training.guidance import Asked, Noted, TrainingReward, led_by
from tests.training.toys import LENGTH, clues, lines, ones, policy, same, trainer, weights

ELITES: dict[str, Any] = {"algorithm": "elite_replay", "states": 16, "sampling_steps": 4}
LED: dict[str, Any] = {**ELITES, "rollout_guidance": "svdd", "rollout_guidance_kwargs": {"candidates": 3}}


def test_the_policy_learns_from_its_guidance_what_it_would_not_have_found(tmp_path: Path) -> None:
    """As many updates, on a world with and without: the policy by itself, in exact numbers."""
    world = World(letters=3, length=4)
    law, reward = markov_chain(world, seed=1), count(world, letter=2)

    def told(completions: list[Any], **columns: Any) -> list[float]:
        return reward[world.index(torch.stack([torch.as_tensor(each) for each in completions]))].tolist()

    found = {}
    for name, options in {"elites": ELITES, "guided": LED}.items():
        model = tabular(world, law)
        size = {"max_steps": 12, "num_iterations": 4, "replay_kwargs": {"size": 8}, "learning_rate": 0.1}
        trainer(tmp_path / name, model, told, **{**options, **size}).train()
        found[name] = expected_reward(model, world, reward).item()
    assert found["guided"] > found["elites"] + 0.1, found


@pytest.mark.parametrize("named", [True, False], ids=["by name", "as an object"])
def test_every_question_to_the_reward_is_counted(tmp_path: Path, named: bool) -> None:
    """Of 8 sequences each, in 4 steps with 3 candidates: 8 x (4 x 3) on the way and 8 at the end."""
    asked: list[int] = []

    def reward(completions: list[Any], **columns: Any) -> list[float]:
        asked.append(len(completions))
        return ones(completions)

    options = LED if named else {**ELITES, "sampler": SVDD(Ancestral(4), TrainingReward(), 3)}
    run = trainer(tmp_path, reward=reward, max_steps=2, **options)
    run.train()
    assert [line["reward_calls"] for line in lines(tmp_path) if "reward_calls" in line] == [8 * 13, 2 * 8 * 13]
    assert sum(asked) == 2 * 8 * 13
    assert run.collector.sampler == Ancestral(4) and run.collector.guided == SVDD(Ancestral(4), TrainingReward(), 3)


def test_a_guidance_given_as_an_object_is_the_named_one(tmp_path: Path) -> None:
    def share(tokens: Tensor) -> Tensor:
        return (tokens == 1).double().mean(1)

    runs = [
        trainer(tmp_path / str(place), **options)
        for place, options in enumerate((LED, {**ELITES, "sampler": SVDD(Ancestral(4), share, 3)}))
    ]
    for run in runs:
        run.train()
    assert same(*(weights(run.model) for run in runs))


def test_what_is_logged_is_no_density_and_what_is_evaluated_is_the_policy(tmp_path: Path) -> None:
    blank: list[dict[str, Any]] = [{}] * 16
    run = trainer(tmp_path, eval_dataset=blank, **LED, num_generations_eval=1, replay_kwargs={"search": 4})
    plain = trainer(
        tmp_path / "plain", eval_dataset=blank, sampler="ancestral", sampling_steps=4, num_generations_eval=1
    )
    assert run.evaluate()["eval_reward"] == plain.evaluate()["eval_reward"]
    assert run.collector.asked.sequences == 0
    run.train()
    told = lines(tmp_path)[-2]
    assert {"reward", "search/reward", "reward_calls"} <= told.keys() and not {"kl", "entropy"} & told.keys()
    assert run.collector.elites.tokens.shape[1] == LENGTH


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"algorithm": "sepo"}, r"rollout_guidance='svdd'.*algorithm='sepo' takes ratios.*vrpo, sdpo, elite_replay"),
        ({"algorithm": "sepo", "beta": 0.1}, r"algorithm='sepo' takes ratios"),
        ({"algorithm": "wdce"}, r"algorithm='wdce' takes ratios"),
        ({"path_kl_coef": 0.1}, r"path_kl_coef=0.1.*SVDD draws others"),
        ({"entropy_coef": 0.1}, r"entropy_coef=0.1.*SVDD draws others"),
        ({"rollout_guidance": None}, r"rollout_guidance_kwargs=\{'candidates': 3\}: there is no guidance"),
        ({"rollout_guidance": "svd"}, r"guidance='svd': choose one of"),
        ({"rollout_guidance_kwargs": {"candidate": 3}}, r"holds 'candidate'"),
        ({"rollout_guidance": "tds", "rollout_guidance_kwargs": {"beta": 1, "particles": 2}}, r"follows the gradient"),
        (
            {"rollout_guidance": "smc", "rollout_guidance_kwargs": {"beta": 1, "particles": 3}},
            r"num_generations=4.*populations of 3 sequences",
        ),
        (
            {"rollout_guidance": "classifier_free", "rollout_guidance_kwargs": {"weight": 1, "unconditional": "base"}},
            r"unconditional='base' is a name",
        ),
    ],
)
def test_what_cannot_be_led_is_refused(tmp_path: Path, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        trainer(tmp_path, **{**LED, **options})


def test_objects_are_refused_as_names_are(tmp_path: Path) -> None:
    led, greedy = BestOfN(FirstHitting(4), TrainingReward(), 2), Confidence(4, temperature=0.0)
    for sampler in (led, greedy):
        with pytest.raises(ValueError, match=r"not the density of its path.*such as elite_replay"):
            trainer(tmp_path, sampler=sampler)
        with pytest.raises(ValueError, match="not the density of its path"):
            trainer(tmp_path, algorithm=EliteReplay(), objective=SEPO(), sampler=sampler)
        made = trainer(tmp_path, algorithm=EliteReplay(), sampler=sampler, max_steps=2)
        made.train()
        assert not {"kl", "entropy"} & lines(tmp_path)[-2].keys()
    with pytest.raises(ValueError, match="stands for the reward of a trainer"):
        TrainingReward()(torch.zeros(1, 1, dtype=torch.long))


@pytest.mark.parametrize("algorithm", ["vrpo", "sdpo"])
def test_prompts_of_preferences_are_led_in_populations_of_their_own(tmp_path: Path, algorithm: str) -> None:
    """Columns of the prompt reach the reward on the way, too; a reference is read by the loss and told no KL."""
    seen: list[tuple[Any, ...]] = []

    def reward(completions: list[Any], answer: list[int], **columns: Any) -> list[float]:
        seen.extend((int(each[0]), row) for each, row in zip(completions, answer, strict=True))
        return ones(completions)

    led = {"rollout_guidance": "smc", "rollout_guidance_kwargs": {"beta": 0.05, "particles": 4}, "sampling_steps": 6}
    options = {"algorithm": algorithm, "states": 16, "rows": clues(), "num_generations": 8, "reward": reward}
    run = trainer(tmp_path / "led", **options, **led)
    run.train()
    assert set(seen) == {(row, row) for row in range(4)}
    told = [line for line in lines(tmp_path / "led") if "reward_calls" in line]
    assert "kl" not in told[0] and told[0]["reward_calls"] == 8 * 7
    plain = trainer(tmp_path / "plain", **options)
    groups = [run.collector.collect(run.stream.rows([0, 1]), [0, 1]) for run in (run, plain)]
    assert groups[0].scores.total.mean() > groups[1].scores.total.mean() + 0.1
    assert isinstance(groups[0].rollout, MaskedPath) and groups[0].credit.log_ratio.eq(0).all()
    alone = run.collector.collect(run.stream.rows([1]), [1])
    assert torch.equal(alone.rollout.x0, groups[0].rollout.x0[8:])


def test_gradients_and_second_models_lead_rollouts_as_objects(tmp_path: Path) -> None:
    def soft(shares: Tensor) -> Tensor:
        return shares[..., 1].mean(1)

    other = policy(seed=1)
    for sampler in (TDS(Ancestral(4), soft, 0.05, 4), ClassifierFree(FirstHitting(4), 1.0, other)):
        run = trainer(tmp_path, algorithm=EliteReplay(), sampler=sampler, max_steps=2)
        run.train()
        calls = lines(tmp_path)[-2]["reward_calls"]
        assert calls == 2 * (8 + 8 * 5 * isinstance(sampler, TDS))


def test_rewards_within_are_noted_in_full_precision() -> None:
    asked, kinds = Asked(), []

    def reward(tokens: Tensor) -> Tensor:
        kinds.append((torch.ones(2, 2) @ torch.ones(2, 2)).dtype)
        return tokens.double().sum(1)

    inside = BestOfN(SMC(Ancestral(4), TrainingReward(), 1.0, 2, value=ArgmaxFill(reward)), TrainingReward(), 2)
    led: Any = led_by(inside, reward, asked)
    rewards = (led.reward, led.inner.reward, led.inner.value.reward)
    assert all(isinstance(each, Noted) and each.reward is reward for each in rewards)
    with torch.autocast("cpu", torch.bfloat16):
        for each in rewards:
            each(torch.ones(3, 2))
    assert asked.sequences == 9 and set(kinds) == {torch.float32}


def test_the_model_card_tells_of_it_and_draws_without(tmp_path: Path) -> None:
    run = trainer(tmp_path, **LED)
    assert run.method.options["rollout_guidance"] == "svdd"
    assert run.subject().sampler == Ancestral(4)

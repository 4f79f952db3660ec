"""What a model card tells of a run: method, options, metrics, use."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from transformers import TrainerState

from sepo import load
from sepo.cli import main
from sepo.models import save_pretrained
from sepo.objectives import SEPO
from sepo.objectives.algorithms import ALGORITHMS
from sepo.objectives.drakes import Drakes
from sepo.samplers import Blocks, FirstHitting, LeftToRight, PredictorCorrector
from sepo.training.method import drawing, last_metrics
from tests.training.test_policy import table
from tests.training.test_publishing import card, rows, second
from tests.training.toys import config, ones, policy, pretrainer, sequences, text_policy, tokenizer, trainer

SEPO_PAPER = "Fine-Tuning Discrete Diffusion Models with Policy Gradient Methods"


def example(text: str) -> tuple[str, list[str]]:
    """The Python, and the words of the command."""
    [code] = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    [command] = re.findall(r"```console\n\$ (.*?)\n```", text)
    return code, command.split()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run from a folder, with two rewards and an evaluation."""
    root = tmp_path_factory.mktemp("publishing")
    save_pretrained(policy(), root / "ancestor")
    options = {"max_steps": 2, "beta": 0.1, "sampling_steps": 3, "reward_weights": [1.0, 0.5], "hub_token": "secret"}
    evaluation = {"eval_dataset": [{}] * 2, "eval_strategy": "steps", "eval_steps": 2}
    made = trainer(root / "mine", load(root / "ancestor"), [ones, second], **options, **evaluation)
    made.train()
    made.save_model()
    return made


def folder_of(made) -> Path:
    return Path(made.args.output_dir)


def test_the_card_names_method_paper_process_rewards_and_base(run):
    found = card(folder_of(run))
    assert found.data.library_name == "sepo"
    assert set(found.data.tags) == {"sepo", "discrete-diffusion", "reinforcement-learning"}
    assert SEPO_PAPER in found.text and "https://arxiv.org/abs/2502.01384" in found.text
    told = rows(found.text)
    assert told["family"] == ["`transformer`"] and told["length"] == ["6 tokens"]
    assert told["process"] == ["absorbing: 5 token ids, mask 4"] and told["parameterisation"][0].startswith("posterior")
    assert told["base model"] == ["the checkpoint `ancestor`"]
    assert (told["ones"], told["second"]) == (["1"], ["0.5"])


def test_the_card_tells_the_options_that_were_changed_and_no_others(run):
    told = rows(card(folder_of(run)).text)
    assert (told["beta"], told["sampling_steps"], told["learning_rate"]) == (["0.1"], ["3"], ["0.02"])
    assert (told["states"], told["num_generations"], told["max_steps"]) == (["2"], ["4"], ["2"])
    assert not {"epsilon", "steps_per_generation", "seed", "output_dir", "hub_token", "report_to"} & told.keys()
    assert "secret" not in card(folder_of(run)).text


def test_the_card_holds_the_metrics_that_were_logged_last_and_nothing_technical(run):
    told = rows(card(folder_of(run)).text)
    logged = {name: value for line in run.state.log_history for name, value in line.items()}
    for name in ("reward", "rewards/second/mean", "kl", "eval_reward"):
        value, step, *_ = told[name]
        assert float(value.replace("−", "-")) == pytest.approx(logged[name], rel=0.01) and step == "2"
    assert not {"loss", "train_loss", "grad_norm", "train_runtime", "clip_ratio/low_mean", "epoch"} & told.keys()


def test_a_base_in_a_folder_is_no_base_model_of_the_hub_and_no_license_is_made_up(run):
    header = card(folder_of(run)).data.to_dict()
    assert "base_model" not in header and "license" not in header
    assert str(folder_of(run).parent / "ancestor") not in card(folder_of(run)).content


def test_the_example_runs(run, capsys):
    code, command = example(card(folder_of(run)).text)
    assert "FirstHitting(steps=3)" in code
    exec(compile(code, "README.md", "exec"), {})
    assert capsys.readouterr().out.startswith("tensor(")
    assert command[:2] == ["sepo", "sample"] and main(command[1:]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 4


def test_the_example_of_a_model_of_text_decodes_and_takes_prompts(tmp_path, capsys):
    words = tokenizer()
    options = {"processing_class": words, "max_completion_length": 3, "max_steps": 1}
    made = trainer(tmp_path, text_policy(words), second, [{"prompt": "the cat"}], **options)
    made.save_model()
    code, command = example(card(tmp_path).text)
    exec(compile(code.replace('"..."', '"the dog"'), "README.md", "exec"), {})
    assert len(json.loads(capsys.readouterr().out.replace("'", '"'))) == 4
    assert command[3:] == ["--num", "4", "--prompts", "...", "--max_completion_length", "3"]


def test_the_example_keeps_the_tokens_around_the_free_sites(tmp_path, capsys):
    made = trainer(tmp_path, replace(policy(length=4), frame=((1,), (2,))), second)
    made.save_model()
    drawn: dict[str, Any] = {}
    exec(compile(example(card(tmp_path).text)[0], "README.md", "exec"), drawn)
    assert set(drawn["rollout"].x0[:, 0].tolist()) == {1} and set(drawn["rollout"].x0[:, -1].tolist()) == {2}


def test_the_example_draws_with_the_sampler_of_the_run():
    drawn = drawing(LeftToRight(steps=4), policy().process, None, False)
    assert (drawn.code, drawn.words) == ("LeftToRight(steps=4)", ("--sampler", "left_to_right", "--steps", "4"))
    assert drawing(None, policy().process, None, False).code == "FirstHitting()"


def test_the_example_draws_in_blocks_where_the_run_did(tmp_path):
    corrected = drawing(Blocks(PredictorCorrector(4, 2), 2, 3), policy().process, None, False)
    inner = "PredictorCorrector(predictor_steps=4, corrector_steps=2)"
    assert corrected.code == f"Blocks({inner}, block_length=2, blocks=3)"
    [option] = [word for word in corrected.words if "inner_kwargs" in word]
    assert option == "--sampler_kwargs.inner_kwargs.corrector_steps" and "--steps" in corrected.words
    save_pretrained(policy(), tmp_path / "model")
    assert main(["sample", str(tmp_path / "model"), "--num", "2", *corrected.words]) == 0
    made = trainer(tmp_path, sampler="blocks", sampler_kwargs={"block_length": 2, "blocks": 3}, sampling_steps=2)
    made.save_model()
    code, command = example(card(tmp_path).text)
    assert "Blocks(Ancestral(steps=2), block_length=2, blocks=3)" in code
    drawn: dict[str, Any] = {}
    exec(compile(code, "README.md", "exec"), drawn)
    assert drawn["rollout"].x0.shape == (4, 6)
    assert main(command[1:]) == 0


def test_another_method_is_named_with_its_own_paper_and_options(tmp_path):
    made = trainer(tmp_path, algorithm="espo", algorithm_kwargs={"epsilon": 0.1}, states=16)
    made.save_model()
    told = card(tmp_path)
    assert "Method: espo." in told.text and "arXiv 2512.03759" in told.text and "espo" in told.data.tags
    assert rows(told.text)["algorithm_kwargs.epsilon"] == ["0.1"] and SEPO_PAPER not in told.text


def test_objects_in_place_of_options_are_named_and_an_objective_of_ones_own_has_no_paper(tmp_path):
    class Mine(SEPO):
        pass

    made = trainer(tmp_path, sampler=FirstHitting(2), objective=SEPO(), states=3, beta=0.1)
    assert (made.method.name, made.method.papers) == ("SEPO", (SEPO.paper,))
    assert made.method.options["sampler"] == "FirstHitting(steps=2)" and "states" not in made.method.options
    other = trainer(tmp_path, objective=Mine())
    assert (other.method.name, other.method.papers) == ("Mine", ())


@pytest.mark.parametrize("kind", [*ALGORITHMS.values(), Drakes])
def test_every_method_has_a_paper(kind):
    assert kind.paper is not None and len(kind.paper.title) > 20
    assert re.fullmatch(r"[12][0-9](0[1-9]|1[0-2])\.[0-9]{5}", kind.paper.arxiv)


def test_a_card_of_pretraining(tmp_path):
    made = pretrainer(tmp_path, eval_dataset=sequences(8), max_steps=2, eval_strategy="steps", eval_steps=2)
    made.train()
    made.save_model()
    told = card(tmp_path)
    assert told.data.tags == ["sepo", "discrete-diffusion", "pretraining"]
    assert "arXiv 2310.16834" in told.text and "averaged with decay 0.999" in told.text
    assert {"eval_bound", "eval_perplexity", "train_loss"} <= rows(told.text).keys()
    assert "reward" not in told.text and "base" not in told.text


def test_a_run_that_measured_nothing_has_no_results(tmp_path):
    trainer(tmp_path).save_model()
    assert "## Results" not in card(tmp_path).text


def test_a_network_of_no_family_is_not_said_to_load(tmp_path):
    trainer(tmp_path, table()).save_model()
    assert "sepo.load" not in card(tmp_path).text and "belongs to no family" in card(tmp_path).text


def finished(**state: Any) -> TrainerState:
    lines = [
        {"reward": 0.1, "kl": 0.5, "step": 1},
        {"reward": 0.4, "kl": float("nan"), "step": 2},
        {"eval_reward": 0.3, "step": 2},
        {"train_runtime": 1.0, "train_loss": 3.0, "step": 2},
    ]
    return TrainerState(log_history=lines, **state)


def test_a_metric_that_was_not_finite_at_last_is_left_out(tmp_path):
    metrics, _ = last_metrics(finished(), config(tmp_path))
    assert [(each.name, each.value, each.step) for each in metrics] == [("reward", 0.4, 2), ("eval_reward", 0.3, 2)]


def test_the_metrics_of_the_best_weights_are_not_those_of_later_steps(tmp_path):
    args = config(tmp_path, load_best_model_at_end=True, eval_strategy="steps", save_strategy="steps")
    metrics, note = last_metrics(finished(best_global_step=1), args)
    assert [(each.name, each.value) for each in metrics] == [("reward", 0.1), ("kl", 0.5)]
    assert "those of step 1" in note

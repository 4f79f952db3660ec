"""Published checkpoints: every tensor accounted for, the authors' own numbers, and back into the form they came in."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from sepo.diffusion.denoiser import Denoiser
from sepo.diffusion.meaning import LeaveOneOut, Posterior, Score
from sepo.diffusion.process import Absorbing, Uniform
from sepo.models import LAYOUTS, load, save_pretrained, save_published
from sepo.models.published import table
from tests.models import published
from tests.models.toys import masked_lm

MEANT = {
    "sedd": (Absorbing, Score, False),
    "mdlm": (Absorbing, Posterior, True),
    "udlm": (Uniform, LeaveOneOut, False),
    "udlm_cfg": (Uniform, LeaveOneOut, False),
    "dna_cnn": (Absorbing, Posterior, True),
    "dplm": (Absorbing, Posterior, True),
    "llada": (Absorbing, Posterior, True),
    "dream": (Absorbing, Posterior, True),
}
CLOSE = {"dna_cnn": 1e-4}
EXPORTED = {"dna_cnn": "drakes", "udlm_cfg": "udlm"}
NONE = 3
"""The class of udlm_cfg that stands for none."""


@pytest.fixture(params=published.FAMILIES)
def family(request) -> str:
    return request.param


@pytest.fixture
def opened(family: str, tmp_path: Path) -> Denoiser:
    return load(
        published.write(family, tmp_path / family if family != "dna_cnn" else tmp_path), pickles=family == "dna_cnn"
    )


def run(policy: Denoiser, case: dict[str, Any], sites: Tensor | None = None) -> Tensor:
    """Logits of the network itself, at the noise level of the case."""
    tokens = torch.tensor(case["tokens"])
    sigma = torch.tensor(case.get("sigma", [0.0] * len(tokens)))
    attend = torch.tensor(case["attention_mask"]).bool() if "attention_mask" in case else None
    with torch.no_grad():
        return policy.call(policy.network, tokens, sigma, attend, sites)


def expected(case: dict[str, Any], family: str) -> Tensor:
    """Dream's output i speaks of token i + 1."""
    logits = torch.tensor(case["logits"])
    return torch.cat([logits[:, :1], logits[:, :-1]], dim=1) if family == "dream" else logits


def meant(case: dict[str, Any], family: str) -> Tensor:
    """Sites whose numbers mean something: not padding, nor, in Dream, what the output before a first token says."""
    if "attention_mask" not in case:
        return torch.ones(torch.tensor(case["tokens"]).shape, dtype=torch.bool)
    real = torch.tensor(case["attention_mask"]).bool()
    return real & real.roll(1, 1) if family == "dream" else real


def test_logits_are_those_of_the_authors_code(family: str, opened: Denoiser) -> None:
    for case in published.reference(family)["cases"]:
        if family == "dna_cnn" and any(case["t"]):
            continue  # the network is published without time conditioning
        if case.get("cond", NONE) != NONE:
            continue  # it is told of a class below
        found, wanted, at = run(opened, case), expected(case, family), meant(case, family)
        assert float(wanted[at].std()) > 0.1
        torch.testing.assert_close(found[at], wanted[at], atol=CLOSE.get(family, 1e-5), rtol=1e-5)


def test_the_lens_says_what_the_numbers_mean(family: str, opened: Denoiser) -> None:
    process, meaning, time_free = MEANT[family]
    assert isinstance(opened.process, process) and isinstance(opened.meaning, meaning)
    assert opened.time_free == time_free and not opened.network.training


def test_logits_at_some_sites_are_rows_of_all_logits(family: str, opened: Denoiser) -> None:
    case = published.reference(family)["cases"][0]
    sites = torch.tensor([[0, 2, 5]]).expand(len(case["tokens"]), -1)
    torch.testing.assert_close(run(opened, case, sites), run(opened, case)[:, [0, 2, 5]], atol=1e-5, rtol=1e-5)


def test_what_is_saved_is_what_is_loaded(family: str, opened: Denoiser, tmp_path: Path) -> None:
    save_pretrained(opened, tmp_path / "saved")
    again = load(tmp_path / "saved")
    case = published.reference(family)["cases"][0]
    assert torch.equal(run(again, case), run(opened, case))
    assert again.process == opened.process and again.meaning == opened.meaning
    assert (again.banned, again.time_free, again.length) == (opened.banned, opened.time_free, opened.length)


def test_it_can_be_written_in_the_form_it_came_in(family: str, opened: Denoiser, tmp_path: Path) -> None:
    layout, found = EXPORTED.get(family, family), published.weights(published.reference(family))
    target = tmp_path / "again.ckpt" if family == "dna_cnn" else tmp_path / "again"
    save_published(opened, target, layout)
    written = torch.load(target)["state_dict"] if family == "dna_cnn" else load_file(target / "model.safetensors")
    recomputed = {name for name in found if LAYOUTS[layout].names.here(name) is None}
    for name in found.keys() - recomputed - set(published.reference(family).get("tied", {})):
        assert torch.equal(written[name], found[name]), name
    again = load(target, pickles=family == "dna_cnn")
    case = published.reference(family)["cases"][0]
    assert torch.equal(run(again, case), run(opened, case))


def test_a_missing_or_strange_tensor_is_named(family: str, tmp_path: Path) -> None:
    if family == "dna_cnn":
        pytest.skip("a pickle is not edited here")
    folder = published.write(family, tmp_path / family)
    tensors = load_file(folder / "model.safetensors")
    gone = next(name for name in tensors if name.endswith("norm.weight") or name.endswith("norm1.weight"))
    del tensors[gone]
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(ValueError, match="1 tensors are missing"):
        load(folder)


@pytest.fixture
def told() -> Iterator[list[str]]:
    """What transformers warns of while weights are loaded."""
    messages: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: messages.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("transformers.modeling_utils")
    level = logger.level
    logger.setLevel(logging.WARNING)  # whatever a command line of another test has asked for
    logger.addHandler(handler)
    yield messages
    logger.removeHandler(handler)
    logger.setLevel(level)


def test_what_was_compared_is_opened_in_silence(family: str, told: list[str], tmp_path: Path) -> None:
    """DPLM's rotary frequencies are in no file, and need not be."""
    load(published.write(family, tmp_path / family if family != "dna_cnn" else tmp_path), pickles=family == "dna_cnn")
    assert told == []


def test_what_was_not_compared_is_reported_as_ever(told: list[str], tmp_path: Path) -> None:
    load(published.write("dplm", tmp_path / "dplm"))
    network = masked_lm()
    stranger = {**network.state_dict(), "bert.pooler.dense.bias": torch.zeros(16)}
    network.save_pretrained(tmp_path / "bert", state_dict=stranger)
    network.config.mask_token_id = 6
    network.config.save_pretrained(tmp_path / "bert")
    load(tmp_path / "bert")
    assert len(told) == 1 and "bert.pooler.dense.bias" in told[0]


def test_a_hole_that_only_transformers_sees_is_refused_in_silence_or_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = published.write("dplm", tmp_path / "dplm")
    tensors = load_file(folder / "model.safetensors")
    del tensors["lm_head.dense.weight"]
    save_file(tensors, folder / "model.safetensors")
    monkeypatch.setattr(table, "compare", lambda *_: None)
    with pytest.raises(ValueError, match=r"missing keys: lm_head.dense.weight"):
        load(folder)


def test_the_score_of_sedd_is_the_authors(tmp_path: Path) -> None:
    policy = load(published.write("sedd", tmp_path / "sedd"))
    for case in published.reference("sedd")["cases"]:
        tokens, sigma = torch.tensor(case["tokens"]), torch.tensor(case["sigma"])
        time = policy.process.schedule.time((-sigma).exp())
        raw = policy.raw_logits(tokens, time)
        found = policy.meaning.log_score(raw, tokens, time, policy.process)
        torch.testing.assert_close(found.detach(), torch.tensor(case["log_score"]), atol=2e-5, rtol=1e-5)


def test_the_probabilities_of_mdlm_are_the_authors(tmp_path: Path) -> None:
    policy = load(published.write("mdlm", tmp_path / "mdlm"))
    for case in published.reference("mdlm")["cases"]:
        tokens, wanted = torch.tensor(case["tokens"]), torch.tensor(case["log_probs"])
        found = policy.log_posterior(tokens, torch.full((len(tokens),), 0.5)).detach()
        torch.testing.assert_close(found.exp(), wanted.exp(), atol=1e-6, rtol=1e-5)


def test_a_step_of_udlm_is_the_authors(tmp_path: Path) -> None:
    """Their formula reads the network's numbers as they are; ours the posterior that Bayes' rule makes of them."""
    policy = load(published.write("udlm", tmp_path / "udlm"))
    case = published.reference("udlm")["cases"][-1]
    tokens, time, earlier = (torch.tensor(case[name]) for name in ("tokens", "t", "s"))
    found = policy.process.reverse(policy.log_posterior(tokens, time), tokens, time, earlier)
    torch.testing.assert_close(found.detach(), torch.tensor(case["log_posterior"]).exp(), atol=1e-5, rtol=1e-4)


def test_a_network_with_classes_is_told_of_one_and_says_what_the_authors_says(tmp_path: Path) -> None:
    folder, cases = published.write("udlm_cfg", tmp_path / "udlm"), published.reference("udlm_cfg")["cases"]
    assert {case["cond"] for case in cases} == {0, 2, NONE}
    for case in cases:
        policy = load(folder, condition=case["cond"])
        torch.testing.assert_close(run(policy, case), torch.tensor(case["logits"]), atol=1e-5, rtol=1e-5)
        save_pretrained(policy, tmp_path / "saved")
        assert torch.equal(run(load(tmp_path / "saved"), case), run(policy, case))
        again = load(tmp_path / "saved", condition=1)
        assert not torch.equal(run(again, case), run(policy, case))
    plain = json.loads((published.FOLDER / "udlm_cfg.json").read_text())["config"]
    save_published(load(folder, condition=0), tmp_path / "back", "udlm")
    written = json.loads((tmp_path / "back" / "config.json").read_text())
    assert (written["cfg"], written["cfg_num_classes"]) == (plain["cfg"], plain["cfg_num_classes"])


def test_adapters_know_the_class_that_their_base_was_told_of(tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    base = load(published.write("udlm_cfg", tmp_path / "udlm"), condition=0)
    adapted = base.on(peft.get_peft_model(base.network, peft.LoraConfig(r=2, target_modules=["attn_qkv"])))
    save_pretrained(adapted, tmp_path / "adapter")
    first, *_, last = published.reference("udlm_cfg")["cases"]
    torch.testing.assert_close(run(load(tmp_path / "adapter"), first), run(base, first))
    wanted = torch.tensor(last["logits"])
    torch.testing.assert_close(
        run(load(tmp_path / "adapter", condition=last["cond"]), last), wanted, atol=1e-5, rtol=1e-5
    )


def test_left_padding_changes_nothing(tmp_path: Path) -> None:
    for family in ("llada", "dream"):
        policy = load(published.write(family, tmp_path / family))
        alone = torch.tensor([[3, 12, 5, 12]])
        padded = torch.cat([torch.zeros(1, 3, dtype=torch.long), alone], dim=1)
        attend = torch.arange(7).unsqueeze(0) >= 3
        with torch.no_grad():
            single = policy.call(policy.network, alone, torch.zeros(1))
            batch = policy.call(policy.network, padded, torch.zeros(1), attend)
        torch.testing.assert_close(batch[:, 3:], single, atol=1e-5, rtol=1e-5)


def test_only_amino_acids_are_drawn(tmp_path: Path) -> None:
    policy = load(published.write("dplm", tmp_path / "dplm"))
    assert set(range(33)) - set(policy.banned) - {32} == set(range(4, 24))


def test_an_alphabet_of_letters_only_is_restricted_by_a_tokenizer(tmp_path: Path) -> None:
    policy = load(published.write("llada", tmp_path / "llada"))
    assert policy.banned == ()  # no tokenizer lies beside it: nothing is known of its ids


def test_adapters_find_the_base_as_it_was_opened(tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    weights = published.weights(published.reference("mdlm"))
    averaged = [each + 1 for name, each in weights.items() if not name.endswith("inv_freq")]
    torch.save({"state_dict": weights, "ema": {"shadow_params": averaged}}, tmp_path / "mdlm.ckpt")
    base = load(tmp_path / "mdlm.ckpt", pickles=True, ema=False)
    adapted = base.on(peft.get_peft_model(base.network, peft.LoraConfig(r=2, target_modules=["attn_qkv"])))
    save_pretrained(adapted, tmp_path / "adapter")
    case = published.reference("mdlm")["cases"][0]
    torch.testing.assert_close(run(load(tmp_path / "adapter"), case), run(base, case))

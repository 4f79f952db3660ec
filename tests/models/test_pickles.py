"""Pickled checkpoints: tensors and plain data come out, nothing that the file names is run."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

from sepo.models import load, save_pretrained, save_published
from sepo.models.published.pickled import plain, unpickle
from tests.models import published


class Wicked:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.fixture
def omegaconf() -> Iterator[ModuleType]:
    """A package of that name whose nodes keep their children as OmegaConf does; gone when a file is to be read."""
    module = ModuleType("omegaconf")
    for name in ("DictConfig", "AnyNode"):
        setattr(module, name, type(name, (), {"__module__": "omegaconf"}))
    sys.modules["omegaconf"] = module
    yield module
    sys.modules.pop("omegaconf", None)


def node(module: ModuleType, value: object) -> object:
    kind = module.DictConfig if isinstance(value, dict) else module.AnyNode
    made = kind()
    if isinstance(value, dict):
        made._content = {key: node(module, each) for key, each in value.items()}
    else:
        made._val = value
    return made


def lightning(path: Path, module: ModuleType, config: dict, wrong: int = 0) -> Path:
    """MDLM's file: weights, their moving average (here 1 more than the weights), a configuration of foreign classes."""
    weights = published.weights(published.reference("mdlm"))
    averaged = [each + 1 for name, each in weights.items() if not name.endswith("inv_freq")]
    torch.save(
        {
            "state_dict": weights,
            "ema": {"decay": 0.9999, "num_updates": 3, "shadow_params": averaged[wrong:]},
            "hyper_parameters": {"config": node(module, config)},
        },
        path,
    )
    sys.modules.pop("omegaconf")
    return path


CONFIG = {"parameterization": "subs", "time_conditioning": False, "model": {"length": 8, "dropout": 0.1}}


def bias(policy) -> torch.Tensor:
    return policy.network.output_layer.linear.bias.detach()


def test_a_pickle_is_opened_only_when_asked(tmp_path: Path, omegaconf: ModuleType) -> None:
    path = lightning(tmp_path / "mdlm.ckpt", omegaconf, CONFIG)
    with pytest.raises(ValueError, match=r"mdlm.ckpt.*pickle.*pickles=True"):
        load(path)


def test_the_average_is_taken_as_published_results_do_unless_told_otherwise(
    tmp_path: Path, omegaconf: ModuleType
) -> None:
    path = lightning(tmp_path / "mdlm.ckpt", omegaconf, CONFIG)
    raw = published.weights(published.reference("mdlm"))["backbone.output_layer.linear.bias"]
    averaged = load(path, pickles=True)
    torch.testing.assert_close(bias(averaged), raw + 1)
    torch.testing.assert_close(bias(load(path, pickles=True, ema=False)), raw)
    assert averaged.length == 8  # of the configuration, without the package that it was pickled with


def test_the_configuration_decides_between_layouts_of_the_same_names(tmp_path: Path, omegaconf: ModuleType) -> None:
    path = lightning(tmp_path / "sedd.ckpt", omegaconf, CONFIG | {"parameterization": "sedd"})
    assert type(load(path, pickles=True).meaning).__name__ == "Score"


def test_averages_that_cannot_be_told_apart_are_refused(tmp_path: Path, omegaconf: ModuleType) -> None:
    path = lightning(tmp_path / "mdlm.ckpt", omegaconf, CONFIG, wrong=1)
    with pytest.raises(ValueError, match=r"moving averages for .* parameters.*ema=False"):
        load(path, pickles=True)


def test_an_average_that_is_not_there_is_refused(tmp_path: Path) -> None:
    path = published.write("dna_cnn", tmp_path)
    with pytest.raises(ValueError, match="holds no moving average"):
        load(path, pickles=True, ema=True)


def test_a_file_that_names_other_code_is_refused_and_not_run(tmp_path: Path) -> None:
    path, mark = tmp_path / "wicked.ckpt", tmp_path / "ran"
    torch.save({"state_dict": {"a": torch.ones(1)}, "extra": Wicked(mark)}, path)
    with pytest.raises(ValueError, match=r"wicked.ckpt"):
        load(path, pickles=True)
    assert not mark.exists()


def test_a_function_of_an_admitted_package_is_not_run_either(tmp_path: Path, omegaconf: ModuleType) -> None:
    ran: list[int] = []
    omegaconf.act = type("act", (), {"__module__": "omegaconf", "__call__": ran.append})
    made = omegaconf.act()
    torch.save({"state_dict": {"a": torch.ones(1)}, "hyper_parameters": made}, tmp_path / "x.ckpt")
    sys.modules.pop("omegaconf")
    content = unpickle(tmp_path / "x.ckpt")
    assert plain(content["hyper_parameters"]) is None and not ran


def test_a_damaged_file_says_so(tmp_path: Path) -> None:
    (tmp_path / "half.ckpt").write_bytes(b"PK not a checkpoint")
    with pytest.raises(ValueError, match=r"half.ckpt.*damaged"):
        load(tmp_path / "half.ckpt", pickles=True)


def test_weights_in_no_known_layout_are_described(tmp_path: Path) -> None:
    torch.save({"state_dict": {"encoder.weight": torch.ones(2)}}, tmp_path / "other.ckpt")
    with pytest.raises(ValueError, match=r"'encoder.weight'.*none of the layouts sedd"):
        load(tmp_path / "other.ckpt", pickles=True)


def test_bare_weights_of_the_dna_network(tmp_path: Path) -> None:
    weights = published.weights(published.reference("dna_cnn"))
    bare = {name.removeprefix("backbone."): each for name, each in weights.items()}
    torch.save(bare, tmp_path / "finetuned.ckpt")
    torch.testing.assert_close(load(tmp_path / "finetuned.ckpt", pickles=True).network.state_dict(), bare)


FORMS = {"drakes": ("backbone.", True), "drakes_bare": ("backbone.", False), "drakes_network": ("", False)}
"""Of the DNA network: what names begin with, and whether Lightning's wrapping is around them."""


@pytest.mark.parametrize("layout", FORMS)
def test_the_dna_network_goes_back_into_the_form_that_it_came_in(layout: str, tmp_path: Path) -> None:
    weights = published.weights(published.reference("dna_cnn"))
    prefix, wrapped = FORMS[layout]
    named = {prefix + name.removeprefix("backbone."): each for name, each in weights.items()}
    torch.save({"state_dict": named} if wrapped else named, tmp_path / "came.ckpt")
    save_published(load(tmp_path / "came.ckpt", pickles=True), tmp_path / "back.ckpt", layout)
    back = torch.load(tmp_path / "back.ckpt", weights_only=True)
    torch.testing.assert_close(back["state_dict"] if wrapped else back, named, rtol=0, atol=0)


@pytest.mark.parametrize(("family", "layout"), [("mdlm", "mdlm"), ("udlm", "udlm"), ("dna_cnn", "drakes")])
def test_a_lightning_file_holds_what_the_authors_modules_ask_for(family: str, layout: str, tmp_path: Path) -> None:
    """Their on_load_checkpoint reads the average and two counters, and their parameters lie in the order of names."""
    came = published.write(family, tmp_path / family if family != "dna_cnn" else tmp_path)
    policy = load(came, pickles=True)
    save_published(policy, tmp_path / "back.ckpt", layout)
    back = torch.load(tmp_path / "back.ckpt", weights_only=True)
    assert {"epoch", "global_step", "pytorch-lightning_version", "state_dict", "ema", "loops"} == back.keys()
    loop = back["loops"]["fit_loop"]
    assert loop["epoch_progress"]["current"]["completed"] == 0
    assert loop["epoch_loop.batch_progress"]["current"]["completed"] == 0
    names = list(published.reference(family)["state_dict"])
    assert list(back["state_dict"]) == names
    tracked = [name for name in names if not name.endswith(("inv_freq", "time_embedder.0.W"))]
    assert back["ema"].keys() == {"decay", "num_updates", "shadow_params"}
    for name, shadow in zip(tracked, back["ema"]["shadow_params"], strict=True):
        assert torch.equal(shadow, back["state_dict"][name])
    weights = sum(each.nbytes for each in back["state_dict"].values())
    assert (tmp_path / "back.ckpt").stat().st_size < 1.5 * weights + 100_000  # the average is not stored twice
    for ema in (None, True, False):
        again = load(tmp_path / "back.ckpt", pickles=True, ema=ema)
        torch.testing.assert_close(again.network.state_dict(), policy.network.state_dict(), rtol=0, atol=0)


def test_a_file_of_sedd_holds_what_the_authors_loader_reads(tmp_path: Path) -> None:
    """load_model_local takes "model", then puts the average in its place, in the order of their parameters."""
    policy = load(published.write("sedd", tmp_path / "sedd"))
    save_published(policy, tmp_path / "checkpoint.pth", "sedd")
    back = torch.load(tmp_path / "checkpoint.pth", weights_only=True)
    names = list(published.reference("sedd")["state_dict"])
    assert back.keys() == {"model", "ema", "step"} and list(back["model"]) == names and back["step"] == 0
    tracked = [name for name in names if not name.endswith("inv_freq")]
    assert back["ema"].keys() == {"decay", "num_updates", "shadow_params"} and back["ema"]["decay"] == 0.9999
    for name, shadow in zip(tracked, back["ema"]["shadow_params"], strict=True):
        assert torch.equal(shadow, back["model"][name])
    for ema in (None, True, False):
        again = load(tmp_path / "checkpoint.pth", pickles=True, ema=ema)
        torch.testing.assert_close(again.network.state_dict(), policy.network.state_dict(), rtol=0, atol=0)
        assert again.meaning == policy.meaning and again.process == policy.process


def test_hyper_parameters_go_back_into_the_file_after_other_forms(tmp_path: Path, omegaconf: ModuleType) -> None:
    told = CONFIG | {"training": {"ema": 0.99}}
    path = lightning(tmp_path / "mdlm.ckpt", omegaconf, told)
    save_pretrained(load(path, pickles=True), tmp_path / "saved")
    save_published(load(tmp_path / "saved"), tmp_path / "back.ckpt", "mdlm")
    back = torch.load(tmp_path / "back.ckpt", weights_only=True)
    assert back["hyper_parameters"] == {"config": told} and back["ema"]["decay"] == 0.99
    assert load(tmp_path / "back.ckpt", pickles=True).length == 8


def test_a_configuration_without_end_is_not_unfolded(tmp_path: Path) -> None:
    nested: tuple = ()
    for _ in range(30):
        nested = (nested, nested)
    torch.save({"state_dict": {"a": torch.ones(1)}, "hyper_parameters": nested}, tmp_path / "bomb.ckpt")
    with pytest.raises(ValueError, match="nested without end"):
        load(tmp_path / "bomb.ckpt", pickles=True)


def test_defaultdicts_with_entries_are_read(tmp_path: Path) -> None:
    kept = defaultdict(dict, {"model": {"length": 8}})
    torch.save({"state_dict": {"a": torch.ones(1)}, "hyper_parameters": kept}, tmp_path / "x.ckpt")
    assert plain(unpickle(tmp_path / "x.ckpt")["hyper_parameters"]) == {"model": {"length": 8}}

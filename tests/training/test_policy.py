"""From what a user names to a policy: folders, networks, lenses, adapters; and what is refused."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers import AutoTokenizer, PretrainedConfig, PreTrainedModel

from sepo import SEPOTrainer
from sepo.diffusion.denoiser import Denoiser
from sepo.diffusion.process import Absorbing
from sepo.models import save_pretrained
from sepo.objectives import SEPO, Transitions
from sepo.ops import rows
from sepo.samplers import Ancestral
from sepo.training.launch import require_one_device
from sepo.training.policy import as_policy, freeze_dropout, lengths_of
from tests.training.toys import (
    LENGTH,
    LETTERS,
    MASK,
    bert,
    config,
    ones,
    policy,
    raised,
    text_policy,
    tokenizer,
    trainer,
    uniform_policy,
)


class TableConfig(PretrainedConfig):
    model_type = "table"


class Table(PreTrainedModel):
    """A network of the user's own: one row of logits per site, whatever it sees."""

    config_class = TableConfig

    def __init__(self, config: PretrainedConfig) -> None:
        super().__init__(config)
        self.logits = nn.Parameter(torch.zeros(LENGTH, LETTERS + 1))
        self.post_init()

    def forward(self, xt):
        return self.logits.expand(len(xt), -1, -1)


def table_call(network, xt, sigma, attend, sites):
    logits = network(xt)
    return logits if sites is None else rows(logits, sites)


def table() -> Denoiser:
    return Denoiser(Table(TableConfig()), Absorbing(LETTERS + 1, mask=MASK), table_call, length=LENGTH)


def test_a_folder_opens_with_its_tokenizer(tmp_path):
    words = tokenizer()
    save_pretrained(text_policy(words), tmp_path / "model")
    words.save_pretrained(tmp_path / "model")
    rows_given = [{"prompt": "the cat"}]
    run = SEPOTrainer(str(tmp_path / "model"), _nothing, config(tmp_path / "run"), rows_given)
    assert run.processing_class is not None and run.processing_class.mask_token == "[MASK]"
    assert run.policy.process == Absorbing(len(words), mask=1)


def test_a_network_opens_with_the_tokenizer_that_names_its_mask(tmp_path):
    words = tokenizer()
    made = as_policy(bert(words), words, config(tmp_path))
    assert made.process == Absorbing(len(words), mask=1)
    assert set(made.banned) == {0, 2, 3}


def test_a_folder_that_is_no_model_is_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    assert "empty" in raised(ValueError, lambda: SEPOTrainer(str(tmp_path / "empty"), ones, config(tmp_path / "run")))


def test_a_network_of_the_users_own_trains_and_saves_without_a_card(tmp_path):
    made = table()
    run = trainer(tmp_path, made, max_steps=3, save_strategy="steps", save_steps=3, learning_rate=0.2)
    run.train()
    assert made.network.logits.abs().max() > 0.1
    assert (tmp_path / "checkpoint-3" / "model.safetensors").is_file()
    assert not (tmp_path / "checkpoint-3" / "sepo.json").exists()
    again = Table.from_pretrained(tmp_path / "checkpoint-3")
    assert torch.equal(again.logits, made.network.logits)


def test_dropout_is_off_unless_it_is_asked_for(tmp_path):
    for asked, probability in ((True, 0.0), (False, 0.3)):
        made = policy(dropout=0.3)
        as_policy(made, None, config(tmp_path, disable_dropout=asked))
        assert {module.p for module in made.network.modules() if isinstance(module, nn.Dropout)} == {probability}


def test_dropout_that_attention_keeps_as_a_number_is_off_too():
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention_dropout = 0.1
            self.scale = 0.5

    made = Attention()
    freeze_dropout(made)
    assert (made.attention_dropout, made.scale) == (0.0, 0.5)


def test_adapters_are_put_on_and_their_dropout_is_off(tmp_path):
    peft = pytest.importorskip("peft")
    settings = peft.LoraConfig(target_modules=["qkv"], r=2, lora_dropout=0.5)
    made = as_policy(policy(), None, config(tmp_path), settings)
    assert isinstance(made.network, peft.PeftModel)
    assert {module.p for module in made.network.modules() if isinstance(module, nn.Dropout)} == {0.0}


def test_a_uniform_process_is_drawn_and_rated_by_one_kernel(tmp_path):
    run = trainer(tmp_path, uniform_policy())
    assert run.collector.sampler == Ancestral(128)
    assert isinstance(run.objective, SEPO) and isinstance(run.objective.reading, Transitions)
    assert run.objective.reading.kernel.__self__ is run.collector.sampler


def test_an_objective_of_ones_own_may_have_a_uniform_process(tmp_path):
    class Mine(SEPO):
        pass

    assert trainer(tmp_path, uniform_policy(), objective=Mine(), sampler=Ancestral(2)).objective == Mine()


def test_several_devices_in_one_process_are_refused(tmp_path):
    args = config(tmp_path)
    args._n_gpu = 2
    message = raised(ValueError, lambda: require_one_device(args))
    assert "sees 2 devices" in message and "accelerate launch" in message


def test_the_lengths_that_a_policy_takes():
    words = tokenizer()
    assert lengths_of(policy()) == range(1, LENGTH + 1)
    assert lengths_of(text_policy(words, length=9)) == range(1, 10)
    assert lengths_of(text_policy(words))[-1] > 10**9
    assert lengths_of(Denoiser(bert(words), Absorbing(len(words), mask=1), table_call))[-1] == 16
    assert lengths_of(table()) == range(1, LENGTH + 1)


def test_the_tokenizer_of_another_model_is_found_out(tmp_path):
    words = tokenizer()
    rows_given = [{"prompt": "the cat"}]
    run = trainer(tmp_path, policy(), _nothing, rows_given, processing_class=words, max_completion_length=2)
    assert "check that the tokenizer belongs to the model" in raised(ValueError, run.train)


def test_without_a_tokenizer_a_folder_of_arrays_has_none(tmp_path):
    save_pretrained(policy(), tmp_path / "model")
    assert SEPOTrainer(str(tmp_path / "model"), ones, config(tmp_path / "run")).processing_class is None
    with pytest.raises(Exception):  # noqa: B017 (whatever transformers says)
        AutoTokenizer.from_pretrained(tmp_path / "nothing")


def _nothing(completions, **columns):
    return [0.0] * len(completions)

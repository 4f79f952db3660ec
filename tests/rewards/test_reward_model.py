"""Sequence-classification models as rewards: a tiny one, made here."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    GPT2Config,
    GPT2ForSequenceClassification,
    PreTrainedTokenizerFast,
)

from sepo.rewards import RewardError, RewardModel, Rewards

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "good", "bad", "film", "a", "user", "assistant", ":"]
TEMPLATE = "{% for message in messages %}{{ message['role'] }} : {{ message['content'] }} [SEP] {% endfor %}"


def words(extra=(), **special):
    """A WordPiece tokenizer that writes [CLS] text [SEP]."""
    vocabulary = {word: index for index, word in enumerate([*WORDS, *extra])}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    special = special or {"pad_token": "[PAD]"}
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]", **special
    )


def config(**options):
    return BertConfig(
        vocab_size=len(WORDS),
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=8,
        max_position_embeddings=12,
        **options,
    )


def bert(labels=1, **options):
    torch.manual_seed(0)
    model = BertForSequenceClassification(config(num_labels=labels, **options))
    for parameter in model.parameters():  # far from the small initial values, so that texts differ
        parameter.data.normal_()
    return model


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "tiny-judge"
    bert().save_pretrained(path)
    words().save_pretrained(path)
    return str(path)


@torch.no_grad()
def by_hand(model, ids):
    return model.eval()(input_ids=torch.tensor([ids])).logits[0]


def test_a_folder_is_a_reward_named_after_it(folder):
    scores = Rewards.of(folder)(["a", "a"], [" good film", " bad"])
    expected = [by_hand(bert(), [2, 7, 4, 6, 3]).item(), by_hand(bert(), [2, 7, 5, 3]).item()]
    assert scores.names == ("tiny-judge",)
    assert scores.total.tolist() == pytest.approx(expected, abs=1e-5)
    assert abs(expected[0] - expected[1]) > 0.01


def test_a_loaded_model_takes_its_tokenizer_from_where_it_came(folder):
    model = BertForSequenceClassification.from_pretrained(folder)
    assert Rewards.of(model)([None], ["good"]).names == ("tiny-judge",)


def test_a_model_made_in_memory_needs_a_tokenizer():
    with pytest.raises(ValueError, match=r"'BertForSequenceClassification' was not loaded.*reward_processing_classes"):
        Rewards.of(bert())
    scores = Rewards.of([len_reward, bert()], processing_classes=[None, words()])([None], ["good"])
    assert scores.names == ("len_reward", "BertForSequenceClassification")
    assert scores.per_function[0, 1].item() == pytest.approx(by_hand(bert(), [2, 4, 3]).item(), abs=1e-5)


def len_reward(completions):
    return [len(text) for text in completions]


def test_the_value_of_a_text_does_not_depend_on_its_batch():
    texts = ["good", "bad film a good a", "a", "film film film", "bad"]
    alone = [RewardModel.of(bert(), words())([None], [text])[0] for text in texts]
    for size in (1, 2, 64):
        reward = RewardModel.of(bert(), words(), batch_size=size)
        assert reward([None] * 5, texts) == pytest.approx(alone, abs=1e-5)


def test_messages_go_through_the_chat_template_and_get_no_further_special_tokens():
    tokenizer = words()
    tokenizer.chat_template = TEMPLATE
    reward = RewardModel.of(bert(), tokenizer)
    expected = by_hand(bert(), [8, 10, 4, 3, 9, 10, 5, 3]).item()
    prompt = [{"role": "user", "content": "good"}]
    assert reward([prompt], [[{"role": "assistant", "content": "bad"}]]) == pytest.approx([expected], abs=1e-5)
    assert reward([prompt], ["bad"]) == pytest.approx([expected], abs=1e-5)
    answer = by_hand(bert(), [9, 10, 5, 3]).item()
    assert reward([None], [[{"role": "assistant", "content": "bad"}]]) == pytest.approx([answer], abs=1e-5)


def test_messages_without_a_chat_template_are_refused():
    with pytest.raises(RewardError, match="has no chat template"):
        Rewards.of(bert(), processing_classes=words())([None], [[{"role": "assistant", "content": "bad"}]])


def test_completions_can_be_judged_without_their_prompts():
    whole = RewardModel.of(bert(), words(), with_prompt=False)
    assert whole(["a"], ["good"]) == RewardModel.of(bert(), words())([None], ["good"])


def test_prompts_that_are_arrays_are_not_read():
    reward = RewardModel.of(bert(), words())
    assert reward([np.array([-1, 3])], ["good"]) == reward([None], ["good"])


def test_a_completion_that_is_an_array_is_refused():
    with pytest.raises(RewardError, match="neither text nor a list of messages"):
        Rewards.of(bert(), processing_classes=words())([None], [np.array([1, 2])])


def test_a_classifier_s_reward_is_the_probability_of_the_chosen_label():
    names = {0: "negative", 1: "neutral", 2: "positive"}
    model = bert(3, id2label=names, label2id={name: index for index, name in names.items()})
    expected = by_hand(model, [2, 4, 3]).softmax(-1)[2].item()
    for label in ("positive", 2):
        assert RewardModel.of(model, words(), label=label)([None], ["good"]) == pytest.approx([expected], abs=1e-5)
    with pytest.raises(ValueError, match=r"3 labels, negative, neutral, positive.*Choose one"):
        Rewards.of(model, processing_classes=words())
    with pytest.raises(ValueError, match=r"label='happy'.*'negative', 'neutral', 'positive'"):
        RewardModel.of(model, words(), label="happy")
    with pytest.raises(ValueError, match=r"label=3: .* labels 0 to 2"):
        RewardModel.of(model, words(), label=3)


def test_a_label_can_be_chosen_for_a_model_given_by_name(tmp_path):
    bert(2).save_pretrained(tmp_path)
    rewards = Rewards.of(str(tmp_path), processing_classes=words(), model_init_kwargs={"label": 1})
    assert 0 < rewards([None], ["good"]).total.item() < 1


def test_a_missing_padding_token_becomes_the_end_of_sequence():
    tokenizer = words(eos_token="[SEP]")
    reward = RewardModel.of(bert(), tokenizer)
    assert reward.tokenizer.pad_token == "[SEP]" and reward.model.config.pad_token_id == 3
    assert tokenizer.pad_token is None, "the caller's tokenizer is left as it was"


def test_a_tokenizer_that_cannot_pad_is_refused():
    with pytest.raises(ValueError, match=r"neither a padding nor an end-of-sequence token.*tokenizer.pad_token"):
        RewardModel.of(bert(), words(bos_token="[CLS]"))


def test_a_model_that_judges_at_the_last_token_finds_it():
    torch.manual_seed(0)
    model = GPT2ForSequenceClassification(
        GPT2Config(vocab_size=11, n_embd=8, n_layer=1, n_head=2, n_positions=12, num_labels=1, pad_token_id=None)
    )
    reward = RewardModel.of(model, words())
    texts = ["good", "bad film a good"]
    assert reward([None] * 2, texts) == pytest.approx([reward([None], [text])[0] for text in texts], abs=1e-5)


def test_a_text_longer_than_the_model_reads_names_both_lengths_or_is_cut():
    text = "good " * 20
    with pytest.raises(RewardError, match=r"completion 1, 'good good.*has 22 tokens and .* at most 12.*max_length=12"):
        Rewards.of(bert(), processing_classes=words())([None] * 2, ["bad", text])
    cut = RewardModel.of(bert(), words(), max_length=12)([None], [text])
    assert cut == pytest.approx([by_hand(bert(), [2, *[4] * 11]).item()], abs=1e-5)


def test_an_empty_text_without_special_tokens_is_not_applicable():
    tokenizer = words()
    tokenizer.chat_template = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
    values = RewardModel.of(bert(), tokenizer)(
        [None] * 2, [[{"role": "assistant", "content": text}] for text in ("", "good")]
    )
    assert values[0] is None and math.isfinite(values[1] or math.nan)


def test_a_tokenizer_of_another_model_is_found_out():
    foreign = words(extra=["more"])
    with pytest.raises(RewardError, match="gave the token id 11 for completion 0 and the model embeds 11"):
        Rewards.of(bert(), processing_classes=foreign)([None], ["more"])


def test_a_model_without_trained_head_is_refused(tmp_path):
    BertModel(config()).save_pretrained(tmp_path / "base")
    with pytest.raises(ValueError, match=r"lacks classifier.bias, classifier.weight.*would be random"):
        Rewards.of(str(tmp_path / "base"), processing_classes=words())


def test_a_folder_without_tokenizer_asks_for_one(tmp_path):
    bert().save_pretrained(tmp_path / "alone")
    with pytest.raises(ValueError, match="reward_processing_classes"):
        Rewards.of(str(tmp_path / "alone"))


def test_a_name_that_is_no_model_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ValueError, match=r"The reward model .*nowhere' cannot be loaded"):
        Rewards.of(str(tmp_path / "nowhere"))


def test_a_reward_model_is_always_in_evaluation_mode():
    reward = RewardModel.of(bert(hidden_dropout_prob=0.5), words())
    first = reward([None], ["good film"])
    reward.model.train()
    assert reward([None], ["good film"]) == first


def test_a_compiled_model_is_still_a_reward_model():
    rewards = Rewards.of(torch.compile(bert(), backend="eager"), processing_classes=words())
    assert isinstance(rewards.functions[0], RewardModel)


@pytest.mark.slow
def test_a_compiled_model_gives_the_same_rewards():
    compiled = torch.compile(bert(), backend="eager")
    scores = Rewards.of(compiled, processing_classes=words())([None], ["good"])
    assert scores.total.item() == pytest.approx(by_hand(bert(), [2, 4, 3]).item(), abs=1e-4)


def test_options_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="batch_size=0"):
        RewardModel.of(bert(), words(), batch_size=0)


def test_moving_rewards_moves_their_models_from_the_cpu():
    rewards = Rewards.of([len_reward, bert()], processing_classes=[None, words()])
    rewards.to("meta")
    model = rewards.functions[1]
    assert isinstance(model, RewardModel) and model.model.device.type == "meta"
    rewards.to("cpu")
    assert model.model.device.type == "meta", "what is not on the CPU stays"

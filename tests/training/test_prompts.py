"""From rows to canvases and from filled canvases to what rewards read."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sepo.diffusion.canvas import Canvas
from sepo.diffusion.rollout import MaskedPath
from sepo.training.prompts import (
    Given,
    Infill,
    Text,
    Unconditional,
    as_messages,
    completion_ids,
    prompts_for,
)
from sepo.training.rows import columns_of, number_of
from tests.training.toys import raised, tokenizer

CHAT = [{"role": "user", "content": "the cat"}]


def filled(canvas: Canvas, tokens: torch.Tensor) -> MaskedPath:
    """A rollout that ended with `tokens`."""
    batch = len(tokens)
    order = torch.where(canvas.free, 0, -1)
    return MaskedPath(canvas, tokens, order, torch.ones(batch, 1), torch.zeros(tokens.shape))


def ids(words: str) -> list[int]:
    return tokenizer()(words)["input_ids"]


def test_unconditional_prompts_are_none_and_completions_arrays():
    prompts = Unconditional(3)
    canvas = prompts.canvas([{}, {}])
    assert canvas.tokens.shape == (2, 3) and canvas.free.all() and not prompts.conditional
    assert prompts.prompts([{}, {}]) == [None, None]
    completion = prompts.completions(filled(canvas, torch.tensor([[1, 2, 3], [0, 0, 1]])))
    assert isinstance(completion[0], np.ndarray) and completion[0].tolist() == [1, 2, 3]


def test_unconditional_completions_are_text_with_a_tokenizer():
    prompts = Unconditional(2, tokenizer())
    canvas = prompts.canvas([{}])
    assert prompts.completions(filled(canvas, torch.tensor([ids("the cat")]))) == ["the cat"]


def test_given_sites_stand_and_the_prompt_marks_the_free_ones():
    rows = [{"tokens": [3, 0, 1], "free": [False, True, False]}]
    prompts = Given()
    canvas = prompts.canvas(rows)
    assert canvas.tokens.tolist() == [[3, 0, 1]] and canvas.free.tolist() == [[False, True, False]]
    assert prompts.prompts(rows)[0].tolist() == [3, -1, 1]
    path = filled(canvas, torch.tensor([[3, 2, 1]]))
    assert prompts.completions(path)[0].tolist() == [3, 2, 1]
    assert completion_ids(path) == [[2]]


def test_given_rows_may_be_tensors_and_arrays():
    rows = [{"tokens": torch.tensor([3, 0]), "free": torch.tensor([False, True])}] * 2
    assert Given().canvas(rows).free.tolist() == [[False, True]] * 2
    rows = [{"tokens": np.array([3, 0]), "free": np.array([False, True])}]
    assert Given().canvas(rows).tokens.tolist() == [[3, 0]]


def test_given_rows_of_several_lengths_are_refused():
    rows = [{"tokens": [1, 2], "free": [True, True]}, {"tokens": [1], "free": [True]}]
    assert "found [1, 2]" in raised(ValueError, lambda: Given().canvas(rows))


def test_given_rows_that_the_network_cannot_take_are_refused_with_both_lengths():
    rows = [{"tokens": [1, 2, 3], "free": [True, True, False]}]
    assert "3 sites, but the model takes 4" in raised(ValueError, lambda: Given(None, range(4, 5)).canvas(rows))
    assert "model takes 1 to 2" in raised(ValueError, lambda: Given(None, range(1, 3)).canvas(rows))


def test_text_has_free_sites_behind_each_prompt_and_padding_behind_them():
    prompts = Text(tokenizer(), completion_length=2)
    canvas = prompts.canvas([{"prompt": "the cat sat"}, {"prompt": "red"}])
    assert canvas.free.int().tolist() == [[0, 0, 0, 1, 1], [0, 1, 1, 0, 0]]
    assert canvas.attend is not None
    assert canvas.attend.int().tolist() == [[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]
    assert canvas.tokens[0, :3].tolist() == ids("the cat sat") and canvas.tokens[1, :1].tolist() == ids("red")


def test_text_without_padding_attends_to_everything():
    assert Text(tokenizer(), 2).canvas([{"prompt": "the cat"}, {"prompt": "red dog"}]).attend is None


def test_a_group_has_the_same_tokens_however_wide_its_canvas_is():
    prompts = Text(tokenizer(), 2)
    narrow, wide = prompts.canvas([{"prompt": "red"}]), prompts.canvas([{"prompt": "red"}], width=7)
    assert wide.tokens.shape == (1, 7) and narrow.tokens.shape == (1, 3)
    assert torch.equal(narrow.tokens, wide.tokens[:, :3]) and torch.equal(narrow.free, wide.free[:, :3])
    assert not wide.free[:, 3:].any() and wide.attend is not None and not wide.attend[:, 3:].any()


def test_completions_end_at_the_first_end_of_sequence():
    words = tokenizer()
    prompts = Text(words, 3)
    canvas = prompts.canvas([{"prompt": "the"}] * 2)
    tokens = torch.tensor([ids("the cat [EOS] dog"), ids("the cat dog ran")])
    assert prompts.completions(filled(canvas, tokens)) == ["cat", "cat dog ran"]


def test_chat_prompts_go_through_the_template_and_completions_are_messages():
    words = tokenizer(chat=True)
    prompts = Text(words, 1)
    rows = [{"prompt": CHAT}]
    canvas = prompts.canvas(rows)
    assert canvas.tokens[0, :-1].tolist() == ids("user : the cat assistant :")
    tokens = canvas.tokens.clone()
    tokens[0, -1] = ids("yes")[0]
    completions = as_messages(prompts.prompts(rows), prompts.completions(filled(canvas, tokens)))
    assert completions == [[{"role": "assistant", "content": "yes"}]]


def test_text_completions_stay_text_where_the_prompt_is_text():
    assert as_messages(["the"], ["cat"]) == ["cat"]


def test_a_prompt_longer_than_the_canvas_is_named_with_both_lengths():
    message = raised(
        ValueError, lambda: Text(tokenizer(), 3, max_length=5).canvas([{"prompt": "the cat sat on a mat"}])
    )
    assert "'the cat sat on a mat' has 6 tokens" in message
    assert "max_completion_length=3" in message and "5 sites" in message


def test_infilling_frees_the_masks_and_completes_the_whole_text():
    prompts = Infill(tokenizer())
    rows = [{"prompt": "the [MASK] sat [MASK]"}, {"prompt": "[MASK] dog"}]
    canvas = prompts.canvas(rows)
    assert canvas.free.int().tolist() == [[0, 1, 0, 1], [1, 0, 0, 0]]
    assert canvas.attend is not None and canvas.attend.int().tolist() == [[1, 1, 1, 1], [1, 1, 0, 0]]
    path = filled(canvas, torch.tensor([ids("the cat sat on"), [*ids("red dog"), 0, 0]]))
    assert prompts.completions(path) == ["the cat sat on", "red dog"]
    assert completion_ids(path) == [ids("cat on"), ids("red")]


def test_infilling_refuses_texts_that_the_network_cannot_hold():
    message = raised(ValueError, lambda: Infill(tokenizer(), range(1, 3)).canvas([{"prompt": "a [MASK] sat"}]))
    assert "'a [MASK] sat' is 3 sites" in message and "1 to 2" in message


def test_the_kind_of_rows_is_seen_from_the_first_one():
    words = tokenizer()
    assert isinstance(prompts_for(None, None, 4, 8), Unconditional)
    assert isinstance(prompts_for([{"tokens": [1], "free": [True]}], None, 4, 8), Given)
    assert isinstance(prompts_for([{"prompt": "the [MASK]"}], words, 4, 8), Infill)
    assert prompts_for([{"prompt": "the cat"}], words, 4, 8) == Text(words, 4, 8)
    assert prompts_for([{"prompt": CHAT}], words, 4, None, range(1, 17)) == Text(words, 4, 16)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([], "dataset is empty: give at least one prompt"),
        ([{"question": "?"}], "columns ['question']; they need 'prompt'"),
        ([{"prompt": "the cat"}], "pass processing_class"),
        (None, "needs a length"),
    ],
)
def test_rows_that_are_no_prompts_are_refused_with_a_remedy(rows, words):
    assert words in raised(ValueError, lambda: prompts_for(rows, None, 4, None))


def test_a_stream_of_rows_is_refused_because_rows_are_drawn_by_index():
    datasets = pytest.importorskip("datasets")
    streamed = datasets.Dataset.from_list([{"prompt": "the"}]).to_iterable_dataset()
    assert "IterableDataset and has no length" in raised(ValueError, lambda: number_of(streamed))


def test_columns_are_what_is_neither_prompt_nor_completion():
    rows = [{"prompt": "a", "completion": "b", "answer": 1}, {"prompt": "c", "completion": "d", "answer": None}]
    assert columns_of(rows) == {"answer": [1, None]}


def test_a_row_without_a_column_that_others_have_is_named():
    message = raised(ValueError, lambda: columns_of([{"prompt": "a", "answer": 1}, {"prompt": "b"}]))
    assert "no 'answer'" in message and "['prompt']" in message

"""Ready rewards for text, each called as a user would: by itself, and among others."""

from __future__ import annotations

import numpy as np
import pytest

from sepo.rewards import (
    ExactMatch,
    LengthPenalty,
    LetterShare,
    RegexReward,
    RepetitionPenalty,
    Rewards,
    is_conversational,
    text_of,
)


def chat(*texts):
    return [[{"role": "assistant", "content": text}] for text in texts]


def test_a_pattern_is_found_anywhere_or_must_be_the_whole():
    texts = ["abc", "xabcx", "ac"]
    assert RegexReward("a.c")(texts) == [1.0, 1.0, 0.0]
    assert RegexReward("a.c", whole=True, hit=2, miss=-1)(texts) == [2.0, -1.0, -1.0]
    assert RegexReward("a.c")(chat(*texts)) == [1.0, 1.0, 0.0]


def test_a_pattern_that_is_none_is_refused_when_it_is_given():
    with pytest.raises(ValueError, match=r"'\(' is not a regular expression"):
        RegexReward("(")
    with pytest.raises(ValueError, match="not a regular expression"):
        ExactMatch(pattern="[")


@pytest.mark.parametrize(
    ("text", "answer", "value"),
    [
        (" yes\n", "yes", 1.0),
        ("Yes", "yes", 0.0),
        ("3.0", 3, 1.0),
        ("3,000", 3000, 1.0),
        ("-1e3", "-1000", 1.0),
        ("1,2", "12", 0.0),
        ("1_0", "10", 0.0),
        ("10000000000000000001", "10000000000000000002", 0.0),
        ("nan", "nan", 1.0),
        ("", "", 1.0),
        ("yes", None, None),
    ],
)
def test_answers_are_equal_as_texts_or_by_value(text, answer, value):
    assert ExactMatch()([text], answer=[answer]) == [value]


def test_an_answer_is_the_first_group_of_the_last_match():
    texts = ["I think 3. <answer>4</answer> no, <answer> 5 </answer>", "5", "<answer>55</answer>"]
    assert ExactMatch("target", r"<answer>(.*?)</answer>")(texts, target=[5, 5, 5]) == [1.0, 0.0, 0.0]
    assert ExactMatch(pattern=r"\d+")(["1 then 5"], answer=[5]) == [1.0]


def test_a_missing_column_of_answers_is_named():
    with pytest.raises(ValueError, match="no column 'answer'"):
        Rewards.of(ExactMatch())(["?"], ["5"], columns={"target": [5]})


def test_the_length_penalty_falls_linearly_over_the_slack():
    """Equation 13 of arXiv 2503.14476, by hand."""
    lengths = [0, 80, 81, 90, 100, 101]
    expected = [0.0, 0.0, -0.05, -0.5, -1.0, -1.0]
    penalty = LengthPenalty(longest=100, slack=20)
    assert penalty(["x" * length for length in lengths]) == pytest.approx(expected)
    assert penalty([np.zeros(length, dtype=int) for length in lengths]) == pytest.approx(expected)


def test_the_length_penalty_measures_what_it_is_told_to():
    words = LengthPenalty(2, 0, measure=lambda completion: len(text_of(completion).split()))
    assert words(["one two", "one two three"]) == [0.0, -1.0]


def test_messages_are_measured_by_their_content():
    assert LengthPenalty(3, 0)(chat("abc", "abcd")) == [0.0, -1.0]


def test_an_n_gram_of_no_token_is_refused():
    with pytest.raises(ValueError, match="size=0"):
        RepetitionPenalty(size=0)


def test_a_slack_beyond_the_length_is_refused():
    with pytest.raises(ValueError, match="slack=5: must lie between 0 and longest=4"):
        LengthPenalty(4, 5)


@pytest.mark.parametrize(
    ("ids", "value"),
    [([1, 2, 3, 4], 0.0), ([5, 5, 5, 5, 5], -0.75), ([1, 2, 1, 2, 1], -0.5), ([1], 0.0), ([], 0.0)],
)
def test_repeated_pairs_cost_their_share(ids, value):
    assert RepetitionPenalty(size=2)(completion_ids=[ids]) == [value]


def test_ignored_tokens_are_no_repetition():
    penalty = RepetitionPenalty(size=2, most=4, ignored=(0,))
    assert penalty(completion_ids=[[1, 2, 0, 0, 0], np.array([0, 7, 7, 7, 0])]) == [0.0, -2.0]


def test_the_share_of_letters_is_the_gc_content():
    assert LetterShare("GC")(["GGCC", "atgc", "TTTT", ""]) == [1.0, 0.5, 0.0, None]
    assert LetterShare("gc", target=0.5)(["GGCC", "ATGC"]) == [-0.5, 0.0]
    assert str(LetterShare("gc", target=0.5)(["ATGC"])) == "[0.0]"


def test_text_rewards_refuse_arrays_and_say_why():
    with pytest.raises(ValueError, match=r"neither text nor a list of messages.*reward for arrays"):
        RegexReward("a")([np.array([1, 2])])


def test_messages_are_known_by_role_and_content():
    assert is_conversational([{"role": "user", "content": "hi"}])
    for other in ("text", None, [], ["text"], [{"role": "user"}], np.array([1]), {"role": "user", "content": "hi"}):
        assert not is_conversational(other)


def test_a_message_whose_content_is_neither_text_nor_parts_is_refused():
    with pytest.raises(ValueError, match="content of a message is 5: it must be text"):
        text_of([{"role": "assistant", "content": 5}])


def test_the_text_of_messages_is_that_of_all_their_parts():
    message = {"role": "assistant", "content": [{"type": "text", "text": "a"}, {"type": "image"}]}
    assert text_of([message, {"role": "assistant", "content": "b"}, {"role": "assistant", "content": None}]) == "ab"


def test_ready_rewards_serve_among_others():
    scores = Rewards.of([RegexReward("a"), LetterShare("a"), RepetitionPenalty()])(
        [None] * 2, ["a", "ba"], [[1], [2, 1]]
    )
    assert scores.names == ("RegexReward", "LetterShare", "RepetitionPenalty")
    assert scores.total.tolist() == [2.0, 1.5]

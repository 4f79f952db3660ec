"""Text end to end: infilling with a masked language model, plain prompts, chat."""

from __future__ import annotations

import torch

from sepo import SEPOTrainer, load
from sepo.runs import RunFolder, read_completions
from tests.training.toys import bert, config, lines, same, text_policy, tokenizer, trainer, weights


def cats(completions, **columns):
    return [float(text.split().count("cat")) for text in completions]


def test_a_masked_language_model_learns_to_fill_masks(tmp_path):
    words = tokenizer()
    prompts = [{"prompt": "the [MASK] sat on [MASK]"}, {"prompt": "[MASK] ran"}]
    options = {"processing_class": words, "max_steps": 25, "learning_rate": 0.03, "logging_steps": 5}
    run = trainer(tmp_path, bert(words), cats, prompts, save_strategy="steps", save_steps=25, **options)
    run.train()
    rewards = [line["reward"] for line in lines(tmp_path) if "reward" in line]
    assert rewards[0] < 0.6 and rewards[-1] > rewards[0] + 0.4
    shown = read_completions(RunFolder(tmp_path))
    for prompt, completion in zip(shown.prompts, shown.completions, strict=True):
        given = prompt.split()
        assert len(completion.split()) == len(given)
        assert all(
            word in (mask, word) for word, mask in zip(completion.split(), given, strict=True) if mask != "[MASK]"
        )
    opened = load(tmp_path / "checkpoint-25")
    assert same(weights(opened.network), weights(run.model))
    assert (tmp_path / "checkpoint-25" / "tokenizer.json").is_file()


def test_the_folder_of_a_masked_language_model_trains_with_its_own_tokenizer(tmp_path):
    words = tokenizer()
    bert(words).save_pretrained(tmp_path / "bert")
    words.save_pretrained(tmp_path / "bert")
    run = SEPOTrainer(str(tmp_path / "bert"), cats, config(tmp_path / "run", max_steps=1), [{"prompt": "a [MASK]"}])
    run.train()
    assert run.state.global_step == 1


def test_plain_prompts_get_plain_completions(tmp_path):
    words = tokenizer()
    seen = []

    def reward(prompts, completions, completion_ids, **columns):
        seen.extend(zip(prompts, completions, completion_ids, strict=True))
        return [float(len(text.split())) for text in completions]

    prompts = [{"prompt": "the cat"}, {"prompt": "a big red dog"}]
    options = {"processing_class": words, "max_completion_length": 3, "max_steps": 2}
    trainer(tmp_path, text_policy(words), reward, prompts, **options).train()
    assert {prompt for prompt, _, _ in seen} == {"the cat", "a big red dog"}
    assert all(len(ids) == 3 for _, _, ids in seen)
    end = words.eos_token_id
    for _, text, ids in seen:
        kept = ids[: ids.index(end)] if end in ids else ids
        assert text == words.decode(kept, skip_special_tokens=True)
    assert any(end in ids for _, _, ids in seen)


def test_chat_prompts_get_messages(tmp_path):
    words = tokenizer(chat=True)
    seen = []

    def reward(prompts, completions, **columns):
        seen.extend(completions)
        assert prompts[0][0]["role"] == "user"
        return [float(message[0]["content"].count("yes")) for message in completions]

    prompts = [{"prompt": [{"role": "user", "content": "the cat sat"}]}]
    options = {"processing_class": words, "max_completion_length": 2, "max_steps": 1}
    trainer(tmp_path, text_policy(words), reward, prompts, log_completions=True, **options).train()
    assert all(len(message) == 1 and message[0]["role"] == "assistant" for message in seen)
    stored = read_completions(RunFolder(tmp_path))
    assert stored.prompts[0] == prompts[0]["prompt"] and stored.completions[0][0]["role"] == "assistant"


def test_a_prompt_draws_the_same_beside_a_longer_one(tmp_path):
    words = tokenizer()
    options = {"processing_class": words, "max_completion_length": 3}
    prompts = [{"prompt": "the"}, {"prompt": "a big red dog sat"}]
    run = trainer(tmp_path, text_policy(words), cats, prompts, **options)
    alone = run.collector.collect(prompts[:1], [7])
    with torch.no_grad():
        again = run.collector.collect(prompts[:1], [7])
    assert torch.equal(alone.rollout.x0, again.rollout.x0)
    pair = run.collector.collect(prompts, [7, 8]).rollout
    policy = run.policy
    for path in (alone.rollout, pair):
        first = path[:4]
        assert first.canvas.free.sum(1).tolist() == [3] * 4
    with torch.no_grad():
        t = torch.ones(4)
        narrow = policy.log_posterior(alone.rollout.canvas.start(policy.process, _chance()), t)
        wide = policy.log_posterior(pair[:4].canvas.start(policy.process, _chance()), t, pair[:4].canvas.attend)
    assert torch.allclose(narrow[:, 1:4].exp(), wide[:, 1:4].exp(), atol=1e-6)


def _chance():
    from sepo.ops import Chance

    return Chance.of(0, 4)

"""DiffusionGemma, tiny and random: the family's logits are the stock class's, and SEPO trains it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from sepo import SEPOTrainer
from sepo.diffusion.canvas import Canvas
from sepo.diffusion.denoiser import Denoiser
from sepo.diffusion.meaning import Posterior
from sepo.diffusion.process import Uniform
from sepo.diffusion.rollout import StatePath
from sepo.models import FAMILIES, as_denoiser, family_of, load, save_pretrained
from sepo.models.diffusion_gemma import ADAPTED, call, lens
from sepo.ops import Chance, rows
from sepo.samplers import Ancestral, PredictorCorrector, TauLeaping, roll, transitions_log_prob
from sepo.samplers.blocks import Blocks
from tests.models.tiny_gemma import diffusion_gemma
from tests.training.toys import config as run_config
from tests.training.toys import lines, tokenizer

SIZE, CANVAS = 40, 6
PROMPTS = (1, 3, 7, 9)
"""Prompts of these lengths, shorter and longer than the sliding window of 4."""

WIDTH = max(PROMPTS) + CANVAS + 2


def network(tied: bool = True, **changes: Any) -> Any:
    return diffusion_gemma(SIZE, CANVAS, tied, **changes)


def sequences() -> list[Tensor]:
    """A prompt and a canvas each, [1 length]."""
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(SIZE, (1, length + CANVAS), generator=generator) for length in PROMPTS]


def padded(left: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """The sequences as one batch, this many sites of padding on the left of each, the rest on its right."""
    xt, attend = torch.full((len(PROMPTS), WIDTH), 9), torch.zeros(len(PROMPTS), WIDTH, dtype=torch.bool)
    for row, (sequence, first) in enumerate(zip(sequences(), left, strict=True)):
        end = first + sequence.shape[1]
        xt[row, first:end], attend[row, first:end] = sequence[0], True
    return xt, attend


def stock(model: Any, sequence: Tensor) -> Tensor:
    return model(input_ids=sequence[:, :-CANVAS], decoder_input_ids=sequence[:, -CANVAS:]).logits


def sigma(xt: Tensor) -> Tensor:
    return torch.full((len(xt),), 0.5)


LEFT = tuple(WIDTH - CANVAS - length for length in PROMPTS)
each_padding = pytest.mark.parametrize("left", [LEFT, (0, 0, 0, 0), (2, 0, 1, 2)], ids=["left", "right", "both"])
each_attention = pytest.mark.parametrize("attention", ["sdpa", "eager"])


def test_it_is_recognised_and_its_lens_is_a_plain_denoiser_under_uniform_noise() -> None:
    model = network()
    assert family_of(model) == "diffusion_gemma"
    denoiser = lens(model)
    assert denoiser.process == Uniform(SIZE) and denoiser.meaning == Posterior()
    assert denoiser.time_free and denoiser.length is None
    again = as_denoiser(model, denoiser.process, banned=denoiser.banned)
    assert (again.call, again.time_free, again.length) == (denoiser.call, denoiser.time_free, denoiser.length)
    assert list(FAMILIES["diffusion_gemma"].lengths(model.config))[:1] == [CANVAS + 1]


@torch.no_grad()
def test_logits_are_those_of_the_stock_class_and_zero_before_the_canvas() -> None:
    model = network()
    for sequence in sequences():
        logits = call(model, sequence, sigma(sequence))
        assert logits.shape == (1, sequence.shape[1], SIZE)
        assert (logits[:, -CANVAS:] - stock(model, sequence)).abs().max() <= 1e-5
        assert (logits[:, :-CANVAS] == 0).all() and logits[:, -CANVAS:].std() > 0.1


@each_padding
@each_attention
@torch.no_grad()
def test_padding_on_either_side_changes_nothing(left: tuple[int, ...], attention: str) -> None:
    model = network()
    model.set_attn_implementation(attention)
    xt, attend = padded(left)
    logits = call(model, xt, sigma(xt), attend)
    for row, sequence in enumerate(sequences()):
        alone = call(model, sequence, sigma(sequence))
        torch.testing.assert_close(logits[row][attend[row]], alone[0], rtol=0, atol=1e-5)
        assert (logits[row][~attend[row]] == 0).all()
    other = xt.where(attend, (xt + 1) % SIZE)
    torch.testing.assert_close(call(model, other, sigma(xt), attend), logits, rtol=0, atol=1e-6)


@torch.no_grad()
def test_asking_for_some_sites_gives_what_gathering_afterwards_gives() -> None:
    model, (xt, attend) = network(), padded((2, 0, 1, 2))
    sites = torch.stack([torch.randperm(WIDTH, generator=torch.Generator().manual_seed(row))[:5] for row in range(4)])
    everywhere = call(model, xt, sigma(xt), attend)
    seen: list[Tensor] = []
    model.lm_head.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    there = call(model, xt, sigma(xt), attend, sites)
    torch.testing.assert_close(there, rows(everywhere, sites), rtol=0, atol=1e-6)
    assert seen[0].shape[1] == 5, "only these sites pass the head"
    assert not model.model._forward_hooks


def test_the_gradient_reaches_encoder_and_decoder_where_their_weights_are_apart() -> None:
    model, (xt, attend) = network(tied=False), padded((2, 0, 1, 2))
    call(model, xt, sigma(xt), attend).square().sum().backward()
    parts = {"encoder": model.model.encoder.language_model, "decoder": model.model.decoder}
    for name, part in parts.items():
        for projection in ("q_proj", "k_proj", "v_proj"):
            gradient = getattr(part.layers[0].self_attn, projection).weight.grad
            assert gradient.isfinite().all() and gradient.abs().max() > 1e-6, (name, projection)
        assert part.embed_tokens.weight.grad.abs().max() > 1e-6


def test_the_gradient_is_that_of_the_stock_class_and_of_no_earlier_call() -> None:
    model, sequence = network(tied=False), sequences()[2]

    def gradients(logits: Tensor) -> dict[str, Tensor]:
        model.zero_grad()
        logits.square().sum().backward()
        return {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}

    expected = gradients(stock(model, sequence))
    with torch.no_grad():
        call(model, sequence, sigma(sequence))
    for _ in range(2):
        found = gradients(call(model, sequence, sigma(sequence)))
        assert found.keys() == expected.keys()
        for name, gradient in found.items():
            torch.testing.assert_close(gradient, expected[name], rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_gradient_checkpointing_gives_the_same_gradients() -> None:
    found = []
    for checkpointing in (False, True):
        model, (xt, attend) = network(tied=False).train(), padded(LEFT)
        if checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        call(model, xt, sigma(xt), attend).square().sum().backward()
        found.append({name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None})
    assert found[0].keys() == found[1].keys()
    for name, gradient in found[0].items():
        torch.testing.assert_close(found[1][name], gradient, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_stock_saving_and_loading_changes_nothing(tmp_path: Path) -> None:
    model, (xt, attend) = network(), padded(LEFT)
    model.save_pretrained(tmp_path)
    again = type(model).from_pretrained(tmp_path).eval()
    assert torch.equal(call(again, xt, sigma(xt), attend), call(model, xt, sigma(xt), attend))


@torch.no_grad()
def test_a_checkpoint_with_a_card_is_loaded_through_the_same_lens(tmp_path: Path) -> None:
    saved, (xt, attend) = lens(network()), padded(LEFT)
    save_pretrained(saved, tmp_path)
    loaded = load(tmp_path)
    assert torch.equal(loaded.logits(xt, sigma(xt), attend), saved.logits(xt, sigma(xt), attend))
    assert (loaded.process, loaded.meaning, loaded.banned) == (saved.process, saved.meaning, saved.banned)


def test_what_is_all_canvas_is_refused_with_a_remedy() -> None:
    model, (xt, attend) = network(), padded(LEFT)
    with pytest.raises(ValueError, match=r"6 tokens.*canvas_length=6.*canvas_length to the number of free sites"):
        call(model, xt[:, :CANVAS], sigma(xt))
    attend[2, :-CANVAS] = False
    with pytest.raises(ValueError, match="6 tokens without padding"):
        call(model, xt, sigma(xt), attend)
    model.config.canvas_length = 4
    assert call(model, xt, sigma(xt), attend)[2, -5].abs().max() == 0


def test_placeholders_and_the_frame_are_banned_and_the_end_is_not() -> None:
    assert lens(network()).banned == (0, 2, 3, 4, 5)  # pad, bos, boi, eoi, image; 1 is the end
    assert lens(network(boi_token_id=30, audio_token_id=31)).banned == (0, 2, 4, 5, 30, 31)
    assert lens(network(image_token_id=None, boi_token_id=SIZE)).banned == (0, 2, 4)


def test_a_tokenizer_names_its_own_and_where_its_ids_end() -> None:
    special = {"image_token": "dog", "boi_token": "cat"}
    special |= {"pad_token": "[PAD]", "unk_token": "[UNK]", "eos_token": "[EOS]"}
    words = PreTrainedTokenizerFast(tokenizer_object=tokenizer().backend_tokenizer, **special)
    words.add_special_tokens({"extra_special_tokens": ["<turn>"]})
    banned = set(lens(network(boi_token_id=None, eoi_token_id=None, image_token_id=None), words).banned)
    named = {words.convert_tokens_to_ids(word) for word in ("[PAD]", "[UNK]", "dog", "cat")}
    assert banned == named | set(range(len(words), SIZE)) and words.convert_tokens_to_ids("<turn>") not in banned


def canvas(blocks: int = 1, batch: int = 1) -> Canvas:
    """Prompts of all lengths, padding behind them as `Text` puts it."""
    length = blocks * CANVAS
    tokens = torch.full((len(PROMPTS), max(PROMPTS) + length), 9)
    site, given = torch.arange(tokens.shape[1]), torch.tensor(PROMPTS).unsqueeze(1)
    attend = site < given + length
    return Canvas(tokens, attend & (site >= given), attend).repeat(batch)


@pytest.mark.parametrize("sampler", [Ancestral(4), TauLeaping(4), PredictorCorrector(3), Blocks(Ancestral(3), 6, 2)])
def test_rollouts_keep_the_prompt_and_never_end_with_a_banned_id(sampler: Any) -> None:
    policy, given = lens(network()), canvas(2 if isinstance(sampler, Blocks) else 1, batch=20)
    path = roll(sampler, policy, given, Chance.of(0, 80))
    assert isinstance(path, StatePath)
    drawn, banned = given.free, torch.tensor(policy.banned)
    assert (path.states == given.tokens.unsqueeze(1))[~drawn.unsqueeze(1).expand_as(path.states)].all()
    assert torch.isin(path.states[:, 0][drawn], banned).any(), "noise is drawn of all ids"
    assert not torch.isin(path.x0[drawn], banned).any() and len(path.x0[drawn].unique()) == SIZE - 5
    torch.testing.assert_close(transitions_log_prob(sampler, policy, path), path.log_prob, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_a_block_is_sampled_on_what_stands_before_it_alone() -> None:
    """Rows in different blocks, read at once, have the laws of each row cut behind its block and read alone."""
    policy, inner = lens(network()), Ancestral(3)
    given = canvas(2)
    xt = given.start(policy.process, Chance.of(0, 4))
    law = Blocks(inner, CANVAS, 2).kernel(policy, xt, torch.tensor([0, 4, 2, 5]), given.attend)
    for row, (block, step) in enumerate([(0, 0), (1, 1), (0, 2), (1, 2)]):
        end = PROMPTS[row] + (block + 1) * CANVAS
        alone = inner.kernel(policy, xt[row : row + 1, :end], torch.tensor([step]))
        torch.testing.assert_close(law[row, end - CANVAS : end], alone[0, -CANVAS:], rtol=1e-4, atol=1e-6)
        others = torch.ones(xt.shape[1], dtype=torch.bool).index_fill(0, torch.arange(end - CANVAS, end), False)
        assert torch.equal(law[row, others].argmax(-1), xt[row, others]) and (law[row, others].amax(-1) == 1).all()


def evens(completions: list[Any], **columns: Any) -> list[float]:
    """The share of even ids among the last six."""
    return [float((completion[-CANVAS:] % 2 == 0).mean()) for completion in completions]


def given_rows(blocks: int = 1) -> list[dict[str, Any]]:
    free = [False] * 3 + [True] * (blocks * CANVAS)
    return [{"tokens": [2, 10 + row, 20] + [0] * (blocks * CANVAS), "free": free} for row in range(4)]


def run(folder: Path, policy: Denoiser, data: list[dict[str, Any]], **changes: Any) -> list[float]:
    given = {name: changes.pop(name) for name in ("sampler", "peft_config") if name in changes}
    options = {"sampling_steps": None if "sampler" in given else 4, "states": 2, "logging_steps": 1, **changes}
    SEPOTrainer(policy, evens, run_config(folder, **options), data, **given).train()
    return [line["reward"] for line in lines(folder) if "reward" in line]


def test_sepo_raises_the_reward(tmp_path: Path) -> None:
    options = {"max_steps": 20, "learning_rate": 0.02, "per_device_train_batch_size": 32, "num_generations": 8}
    rewards = run(tmp_path, lens(network()), given_rows(), states=4, **options)
    assert sum(rewards[:3]) / 3 < 0.6 and sum(rewards[-3:]) / 3 > 0.75


def test_sepo_trains_through_blocks(tmp_path: Path) -> None:
    sampler = Blocks(Ancestral(3), CANVAS, 2)
    rewards = run(tmp_path, lens(network()), given_rows(2), sampler=sampler, max_steps=2)
    assert len(rewards) == 2


def test_adapters_train_encoder_and_decoder(tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    policy = lens(network())
    before = {name: weight.clone() for name, weight in policy.network.named_parameters()}
    adapters = peft.LoraConfig(r=2, target_modules=ADAPTED)
    run(tmp_path, policy, given_rows(), max_steps=2, peft_config=adapters)
    trained = {name: weight for name, weight in policy.network.named_parameters() if "lora_B" in name}
    for part in ("language_model", "decoder"):
        assert any(part in name and weight.abs().max() > 0 for name, weight in trained.items())
    assert not any("vision" in name for name in trained)
    same = {name.replace(".base_layer", ""): weight for name, weight in policy.network.named_parameters()}
    assert all(torch.equal(same[name], weight) for name, weight in before.items())

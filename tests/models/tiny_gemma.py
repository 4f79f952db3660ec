"""DiffusionGemma as small as it gets: two layers, two experts, and a vision tower that no test enters."""

from __future__ import annotations

from typing import Any

import pytest

from tests.models.toys import shaken

pytest.importorskip("transformers.models.diffusion_gemma", reason="this release of transformers is older")
from transformers import DiffusionGemmaConfig, DiffusionGemmaForBlockDiffusion, DiffusionGemmaTextConfig
from transformers.models.gemma4.configuration_gemma4 import Gemma4VisionConfig


def diffusion_gemma(size: int, canvas: int, tied: bool = True, sliding_window: int = 4, **changes: Any) -> Any:
    """size: of the vocabulary; tied: encoder and decoder share their weights; changes: of the outer configuration."""
    text = DiffusionGemmaTextConfig(
        vocab_size=size,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        layer_types=["sliding_attention", "full_attention"],
        sliding_window=sliding_window,
        num_attention_heads=2,
        num_key_value_heads=1,
        num_global_key_value_heads=1,
        head_dim=8,
        global_head_dim=8,
        num_experts=2,
        top_k_experts=1,
        moe_intermediate_size=16,
        tie_word_embeddings=tied,
    )
    vision = Gemma4VisionConfig(
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        num_key_value_heads=1,
        head_dim=8,
        position_embedding_size=4,
    )
    options = {"boi_token_id": 3, "eoi_token_id": 4, "image_token_id": 5, "canvas_length": canvas, **changes}
    made = DiffusionGemmaConfig(text_config=text, vision_config=vision, tie_word_embeddings=tied, **options)
    return shaken(lambda: DiffusionGemmaForBlockDiffusion(made))

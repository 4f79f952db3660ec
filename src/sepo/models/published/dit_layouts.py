"""SEDD, MDLM and UDLM: three names for the tensors of one network, and three meanings of its numbers.

SEDD (arXiv 2310.16834): unnormalised scores, scaled by -log expm1(sigma) - log(V - 1). MDLM (arXiv 2406.07524):
posteriors at masks, deaf to the time. UDLM (arXiv 2412.10193): posteriors that have not seen their own site, of the
uniform process.
"""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from sepo.diffusion.denoiser import Denoiser
from sepo.diffusion.meaning import LeaveOneOut, Meaning, Posterior, Score
from sepo.diffusion.process import Absorbing, Uniform
from sepo.diffusion.schedule import Geometric, LogLinear, Schedule
from sepo.models.families import as_denoiser
from sepo.models.networks.dit import DiT, DiTConfig
from sepo.models.published.files import lightning_file, sedd_file
from sepo.models.published.layout import Described, Layout, prefixed, same
from sepo.models.weights import Shapes

PREFIX = "backbone."
BERT_MASK = 103
"""[MASK] of bert-base-uncased, with which MDLM and UDLM were trained on LM1B."""
UNTRACKED = ("rotary_emb.inv_freq", "limiting_distribution")


def _from_shapes(shapes: Shapes, prefix: str) -> dict[str, int]:
    """The sizes that the tensors tell; heads by the length of the rotary table, half a head's width."""
    vocab, width = shapes[f"{prefix}vocab_embed.embedding"]
    half = shapes.get(f"{prefix}rotary_emb.inv_freq", (32,))[0]
    classes = shapes.get(f"{prefix}cond_map.embedding_table.weight", (1,))[0] - 1
    blocks = {name.split("blocks.")[1].split(".")[0] for name in shapes if name.startswith(f"{prefix}blocks.")}
    return {
        "vocab_size": vocab,
        "hidden_size": width,
        "cond_dim": shapes[f"{prefix}sigma_map.mlp.2.weight"][0],
        "num_hidden_layers": len(blocks),
        "num_attention_heads": width // (2 * half),
        "num_classes": classes,
    }


def _config(prefix: str, timed: bool | None, length: int, usual: bool = False):
    """timed: whether the network hears the noise level; None: the description says so, else it is as usual."""

    def build(description: Described, shapes: Shapes) -> DiTConfig:
        model = _section(description, "model")
        return DiTConfig(
            **_from_shapes(shapes, prefix),
            length=model.get("length") or description.get("model_length") or length,
            dropout=model.get("dropout", description.get("dropout", 0.1)),
            time_conditioning=bool(description.get("time_conditioning", usual)) if timed is None else timed,
        )

    return build


def _section(description: Described, name: str) -> dict[str, Any]:
    found = description.get(name)
    return found if isinstance(found, dict) else {}


def _schedule(description: Described) -> Schedule:
    noise = _section(description, "noise")
    kind = noise.get("type", "loglinear")
    if kind == "geometric":
        return Geometric(noise.get("sigma_min", 1e-4), noise.get("sigma_max", 20.0))
    if kind == "loglinear":
        return LogLinear()
    raise ValueError(f"noise.type {kind!r}: loglinear and geometric are known.")


def _masked(meaning: Meaning):
    """The mask is the tokenizer's, where that has one, else the last id."""

    def lens(network: PreTrainedModel, description: Described, tokenizer: PreTrainedTokenizerBase | None) -> Denoiser:
        size, mask = network.config.vocab_size, network.config.vocab_size - 1
        told: Any = None if tokenizer is None else tokenizer.mask_token_id
        if told is None and "bert" in str(_section(description, "data").get("tokenizer_name_or_path")):
            told = BERT_MASK
        if told is not None and told < size:
            mask = told
        return as_denoiser(network, Absorbing(size, mask, schedule=_schedule(description)), meaning)

    return lens


def _sedd_lens(network: PreTrainedModel, description: Described, tokenizer: PreTrainedTokenizerBase | None) -> Denoiser:
    scaled = _section(description, "model").get("scale_by_sigma", True)
    size, schedule = network.config.vocab_size, _schedule(description)
    absorbing = _section(description, "graph").get("type", "absorb") == "absorb"
    process = Absorbing(size, size - 1, schedule=schedule) if absorbing else Uniform(size, schedule=schedule)
    return as_denoiser(network, process, Score(scale_by_sigma=scaled and absorbing))


def _uniform(network: PreTrainedModel, description: Described, tokenizer: PreTrainedTokenizerBase | None) -> Denoiser:
    return as_denoiser(network, Uniform(network.config.vocab_size), LeaveOneOut())


def _is_uniform(description: Described) -> bool:
    return description.get("model_type") == "udlm" or description.get("diffusion") == "uniform"


def _in_backbone(description: Described, shapes: Shapes) -> bool:
    return f"{PREFIX}vocab_embed.embedding" in shapes


def _scored(description: Described) -> bool:
    return description.get("parameterization") == "sedd"


def _hydra(config: Any) -> dict[str, Any]:
    return {
        "tokens": config.vocab_size - 1,
        "graph": {"type": "absorb"},
        "noise": {"type": "loglinear", "sigma_min": 1e-4, "sigma_max": 20},
        "model": {
            "name": "ddit",
            "type": "ddit",
            "hidden_size": config.hidden_size,
            "cond_dim": config.cond_dim,
            "length": config.length,
            "n_blocks": config.num_hidden_layers,
            "n_heads": config.num_attention_heads,
            "scale_by_sigma": True,
            "dropout": config.dropout,
        },
    }


def _flat(model_type: str):
    def describe(config: Any) -> dict[str, Any]:
        return {
            "model_type": model_type,
            "architectures": [model_type.upper()],
            "vocab_size": config.vocab_size,
            "model_length": config.length,
            "hidden_dim": config.hidden_size,
            "cond_dim": config.cond_dim,
            "n_blocks": config.num_hidden_layers,
            "n_heads": config.num_attention_heads,
            "dropout": config.dropout,
            "time_conditioning": config.time_conditioning,
            **({"cfg": True, "cfg_num_classes": config.num_classes} if config.num_classes else {}),
        }

    return describe


SEDD = Layout(
    "sedd",
    lambda description, shapes: "vocab_embed.embedding" in shapes,
    _config("", True, 1024),
    DiT,
    same(),
    _sedd_lens,
    _hydra,
    untracked=UNTRACKED,
    file=sedd_file,
)
UDLM = Layout(
    "udlm",
    lambda description, shapes: _in_backbone(description, shapes) and _is_uniform(description),
    _config(PREFIX, None, 128, usual=True),
    DiT,
    prefixed(PREFIX),
    _uniform,
    _flat("udlm"),
    untracked=UNTRACKED,
    file=lightning_file,
)
MDLM_SEDD = Layout(
    "mdlm_sedd",
    lambda description, shapes: _in_backbone(description, shapes) and _scored(description),
    _config(PREFIX, True, 1024),
    DiT,
    prefixed(PREFIX),
    _masked(Score()),
    lambda config: _flat("mdlm")(config) | {"parameterization": "sedd"},
    untracked=UNTRACKED,
    file=lightning_file,
)
MDLM = Layout(
    "mdlm",
    lambda description, shapes: _in_backbone(description, shapes),
    _config(PREFIX, None, 1024),
    DiT,
    prefixed(PREFIX),
    _masked(Posterior()),
    _flat("mdlm"),
    untracked=UNTRACKED,
    file=lightning_file,
)

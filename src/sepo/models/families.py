"""The table of families, and the lens on a network of any of them."""

from __future__ import annotations

from torch import nn

from sepo.diffusion.denoiser import Denoiser
from sepo.diffusion.meaning import Meaning, Posterior
from sepo.diffusion.process import Process
from sepo.models import diffusion_gemma, dit, dna_cnn, grid, language_model, masked_lm, transformer
from sepo.models.family import Family, innermost

FAMILIES: dict[str, Family] = {
    "grid": grid.FAMILY,
    "transformer": transformer.FAMILY,
    "dit": dit.FAMILY,
    "dna_cnn": dna_cnn.FAMILY,
    "masked_lm": masked_lm.FAMILY,
    "language_model": language_model.FAMILY,
    "diffusion_gemma": diffusion_gemma.FAMILY,
}


def family_of(network: nn.Module) -> str:
    """The name of the family that a network belongs to; any stock `...ForMaskedLM` is a masked_lm.

    Raises:
        ValueError: it belongs to none; a `...ForCausalLM` that looks back only does not denoise.
    """
    inner = innermost(network)
    for name, family in FAMILIES.items():
        if family.network is not None and isinstance(inner, family.network):
            return name
    if "ForMaskedLM" in type(inner).__name__:
        return "masked_lm"
    if "ForBlockDiffusion" in type(inner).__name__:
        return "diffusion_gemma"
    if "ForCausalLM" in type(inner).__name__ or "LMHeadModel" in type(inner).__name__:
        if getattr(inner.config, "is_causal", True):
            raise ValueError(
                f"{type(inner).__name__} looks back only and cannot fill in what lies ahead: take its causal mask away "
                "with sepo.models.convert(network, tokenizer), then train it on text with PretrainTrainer."
            )
        return "language_model"
    raise ValueError(
        f"{type(inner).__name__} belongs to no family; the known ones are {', '.join(FAMILIES)}. A new family is one "
        "file and one row of sepo.models.families.FAMILIES."
    )


def as_denoiser(
    network: nn.Module,
    process: Process,
    meaning: Meaning = Posterior(),  # noqa: B008 (frozen)
    banned: tuple[int, ...] = (),
    length: int | None = None,
) -> Denoiser:
    """The lens on a network of a known family; refuses a process or a length that does not fit the network.

    length: of an unconditional canvas; None takes what the network's configuration says, if it does.
    """
    family, config = FAMILIES[family_of(network)], innermost(network).config
    size = config.get_text_config().vocab_size
    if process.size != size:
        raise ValueError(
            f"The process has size={process.size} token ids but the network embeds and outputs "
            f"vocab_size={size}: they must agree (for an absorbing process both count the mask)."
        )
    if length is None:
        length = family.length(config)
    allowed = family.lengths(config)
    if length is not None and length not in allowed:
        raise ValueError(
            f"length={length} does not fit the network, which takes {allowed[0]} to {allowed[-1]} tokens: choose such "
            "a length or build the network for this one."
        )
    time_free = family.time_free(config)
    return Denoiser(network, process, family.call, meaning, banned, time_free, length, cached_call=family.cached_call)

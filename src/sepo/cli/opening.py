"""Opening what is named: a model with a hint where it comes from, the options of an adapter."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sepo import recipes
from sepo.diffusion.alike import require_alike
from sepo.diffusion.denoiser import Denoiser
from sepo.diffusion.process import PROCESSES, Absorbing, Uniform
from sepo.models import FAMILIES, as_denoiser, family_of, load
from sepo.models.adapters import usual_layers
from sepo.samplers import Sampler, sampler_named


def model_named(name: str, device: str | None = None, **options: Any) -> Denoiser:
    """The model in a folder or on the hub.

    Raises:
        ValueError: it cannot be loaded; if a shipped recipe makes it, the message says which.
    """
    if not Path(name).exists():
        for command in ("pretrain", "finetune"):
            for recipe in recipes.shipped(command):
                if Path(str(recipes.read(recipe, command).options.get("output_dir"))) == Path(name):
                    raise ValueError(f"There is no model {name!r} yet: `sepo {command} {recipe}` makes it.")
    return load(name, device, **options)


def model_beside(role: str, name: Any, policy: Denoiser, device: str, options: Mapping[str, Any]) -> Denoiser:
    """A second model of the same tokens and noise, loaded with the options of `policy`. role: what errors call it.

    Raises:
        ValueError: it cannot be loaded, or does not fit the policy.
    """
    if not isinstance(name, str):
        raise ValueError(f"{role}={name!r}: must be the folder or hub id of a model.")
    alike = {option: value for option, value in options.items() if option not in ("device", "revision")}
    try:
        found = model_named(name, device, **alike)
        require_alike(policy, found, role.rpartition(".")[2])
    except ValueError as error:
        raise ValueError(f"{role}={name!r}: {error}") from error
    return found


def chosen_sampler(
    policy: Denoiser,
    name: str | None,
    steps: int | None,
    options: Mapping[str, Any] | None = None,
    kernel: bool = False,
) -> Sampler:
    """The sampler that was named; by default one site per step for masks, ancestral for other processes, and where one
    with a kernel is needed."""
    usual = "first_hitting" if isinstance(policy.process, Absorbing) and not kernel else "ancestral"
    return sampler_named(name or usual, steps, options)


def adapter(asked: bool | Mapping[str, Any] | None, policy: Denoiser) -> Any:
    """The LoraConfig of the options `peft`; by default on the layers that the family of the network names, or PEFT
    does, or on queries and values.

    Raises:
        ValueError: peft is not installed, or has no such option.
    """
    if asked is None or asked is False:
        return None
    try:
        from peft import LoraConfig
    except ImportError as error:
        raise ValueError("peft needs the package peft: pip install peft (extra `peft`).") from error
    chosen = {} if asked is True else dict(asked)
    if "target_modules" not in chosen:
        chosen["target_modules"] = usual_layers(policy.network, FAMILIES[family_of(policy.network)].lora)
    try:
        return LoraConfig(**chosen)
    except TypeError as error:
        raise ValueError(f"peft: {error}; the options are those of peft.LoraConfig.") from error


def network_from(asked: Mapping[str, Any], process: str, tokenizer: Any, length: int | None) -> Denoiser:
    """A fresh network of the family named, and the process it is to invert.

    asked: `family`, the options of its configuration, and `length`, of an unconditional canvas. Ids come from the
    tokenizer; without one vocab_size counts the mask, which is the last id.

    Raises:
        ValueError: there is no such family, option or process.
    """
    options: dict[str, Any] = {"vocab_size": len(tokenizer)} if tokenizer is not None else {}
    options |= {name: value for name, value in asked.items() if name not in ("family", "length")}
    fresh = {name: each for name, each in FAMILIES.items() if each.config is not None}
    family = fresh.get(str(asked.get("family")))
    if family is None or family.config is None or family.network is None:
        raise ValueError(f"network.family={asked.get('family')!r}: choose one of {', '.join(fresh)}.")
    known = [name for name in inspect.signature(family.config).parameters if name != "kwargs"]
    for name in options:
        if name not in known:
            raise ValueError(f"network.{name}: a {asked['family']} has the options {', '.join(known)}, and length.")
    if process not in PROCESSES:
        raise ValueError(f"process={process!r}: choose one of {', '.join(PROCESSES)}.")
    config = family.config(**options)
    mask = config.vocab_size - 1 if tokenizer is None else tokenizer.mask_token_id
    if process == "absorbing" and mask is None:
        raise ValueError("The tokenizer has no mask token: add one, or choose --process uniform.")
    law = Absorbing(config.vocab_size, mask) if process == "absorbing" else Uniform(config.vocab_size)
    return as_denoiser(family.network(config), law, length=asked.get("length", length))


def size(policy: Denoiser) -> str:
    """How many parameters, and where: `0.17 M parameters on cpu`."""
    number = sum(parameter.numel() for parameter in policy.network.parameters())
    trained = sum(parameter.numel() for parameter in policy.network.parameters() if parameter.requires_grad)
    share = "" if trained in (0, number) else f", {trained / 1e6:.3g} M of them trained"
    return f"{number / 1e6:.3g} M parameters{share} on {policy.device.type}"

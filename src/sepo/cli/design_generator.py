"""The generator of `sepo design`, its own or the user's."""

from __future__ import annotations

from sepo.cli.design_options import Design
from sepo.cli.opening import model_named
from sepo.diffusion.denoiser import Denoiser
from sepo.diffusion.process import Absorbing
from sepo.oracles import Measurements
from sepo.tasks.base import device_for


def generator_of(what: Design) -> Denoiser:
    return model_named(what.base, device_for(what.device), **what.generator_options)


def require_generator(what: Design, measured: Measurements) -> None:
    """Before anything is fitted: a generator of one's own draws sequences like those of the table.

    Raises:
        ValueError: it cannot be loaded, or draws others.
    """
    if what.generator is None:
        return
    try:
        policy = generator_of(what)
    except ValueError as error:
        raise ValueError(f"generator={what.generator!r}: {error}{_about_pickles(what, str(error))}") from error
    letters, process = measured.alphabet.letters, policy.process
    problem = None
    if policy.length != measured.length:
        draws = "of any length" if policy.length is None else f"of {policy.length} tokens"
        problem = f"it draws sequences {draws}, and those of {what.data} have {measured.length} letters"
    elif isinstance(process, Absorbing) and (process.size, process.mask) != (len(letters) + 1, len(letters)):
        problem = (
            f"it knows {process.size} ids, of which {process.mask} is the mask, and must know the {len(letters)} "
            f"letters {letters} as 0 to {len(letters) - 1} and the mask as {len(letters)}"
        )
    elif not isinstance(process, Absorbing) and process.size != len(letters):
        problem = f"it knows {process.size} ids, and must know the {len(letters)} letters {letters} and nothing else"
    if problem is not None:
        raise ValueError(
            f"generator={what.generator!r} does not fit the table: {problem}. Name another, set --alphabet, or leave "
            "the option out: one is then trained on the table."
        )


def _about_pickles(what: Design, said: str) -> str:
    if "pickles" not in said or what.generator_options.get("pickles"):
        return ""
    return " Here the option is --generator_init_kwargs.pickles true."

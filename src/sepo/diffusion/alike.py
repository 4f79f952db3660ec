"""Whether two denoisers speak of the same sequences, so that their laws may be combined or compared site by site."""

from __future__ import annotations

from sepo.diffusion.denoiser import Denoiser
from sepo.diffusion.process import Absorbing


def require_alike(policy: Denoiser, other: Denoiser, role: str) -> None:
    """role: what errors call the other one.

    Raises:
        ValueError: the two do not invert the same process of the same ids on the same schedule, or draw sequences of
            different lengths or frames.
    """
    mine, its = policy.process, other.process
    kinds = [type(each).__name__ for each in (its, mine)]
    problem = None
    if its.size != mine.size:
        problem = f"{role} knows {its.size} ids and the policy {mine.size}"
    elif kinds[0] != kinds[1]:
        problem = f"{role} inverts the process {kinds[0]} and the policy {kinds[1]}"
    elif isinstance(mine, Absorbing) and isinstance(its, Absorbing) and its.mask != mine.mask:
        problem = f"The mask is id {its.mask} of {role} and id {mine.mask} of the policy"
    elif its.schedule != mine.schedule and not _timeless(policy, other):
        problem = f"{role} has the schedule {its.schedule} and the policy {mine.schedule}"
    elif None not in (policy.length, other.length) and policy.length != other.length:
        problem = f"{role} draws sequences of {other.length} tokens and the policy of {policy.length}"
    elif other.frame != policy.frame:
        problem = f"{role} has the frame {other.frame} and the policy {policy.frame}"
    if problem is not None:
        raise ValueError(
            f"{problem}: name a model of the same tokens and noise, such as the one that the policy was fine-tuned "
            "from."
        )


def _timeless(policy: Denoiser, other: Denoiser) -> bool:
    """What fills a mask is then the same under any schedule. A token that may change again, as under the uniform
    process, is read by how much noise there is."""
    return policy.time_free and other.time_free and isinstance(policy.process, Absorbing)

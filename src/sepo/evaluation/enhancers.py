"""The five numbers by which designed enhancers are compared, as they were published and as they should be taken.

| | as published | corrected, of distinct sequences |
|-|-|-|
| predicted activity | median over samples of the evaluation oracle's HepG2 | the same |
| ATAC accuracy | share with a probability above .5 that HepG2's chromatin is open | the same |
| 3-mers | Pearson's correlation of counts with the data's top .1 %, over words that occur | over all words |
| motifs | Spearman's, of hits, over motifs that stand in both sets | over motifs that stand in either |
| log-likelihood | median of the bound on a grid of 128 times, one draw each | of the count form, more draws |

(Fine-Tuning Discrete Diffusion Models via Reward Optimization, arXiv 2410.13643, section 6.1 and the notebook released
with it.) Samplers that draw particles anew by weight return the same sequence many times, and a motif that the samples
have lost leaves the published comparison: both flatter. HepG2 is column 1 of the seven of the ATAC oracle; numbers
released with SEPO (arXiv 2502.01384) were taken from column 0.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from sepo.diffusion.denoiser import Denoiser, evaluating
from sepo.diffusion.likelihood import bound
from sepo.evaluation.grid_likelihood import grid_log_likelihood
from sepo.evaluation.motif_hits import hit_correlation
from sepo.evaluation.sequences import kmer_counts
from sepo.ops import Chance
from sepo.record import Record
from sepo.typing import Float, Int, PerSequence, Tokens

LETTERS = 4
HEPG2_OPEN = 1
"""The column of the ATAC oracle that is HepG2."""
OPEN = 0.5
KMER = 3


@dataclass(frozen=True)
class FiveMetrics:
    """None: what it is taken from was not given. log_likelihood: nats per sequence."""

    pred_activity: float
    atac_accuracy: float
    kmer_correlation: float
    motif_correlation: float | None = None
    log_likelihood: float | None = None

    def named(self, suffix: str = "") -> dict[str, float]:
        """Those that there are."""
        return {f"{name}{suffix}": value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True, eq=False)
class Designed(Record):
    """Samples and what was found of each.

    activity: by the oracle that was not the reward, HepG2; access: probability that the chromatin is open, by cell
    line; hits: of each motif; coarse, fine: estimates of the bound on log p under the pretrained model, on the grid and
    in the count form, nats.
    """

    tokens: Tokens
    activity: Float[Tensor, " batch"]
    access: Float[Tensor, "batch lines"]
    hits: Int[Tensor, "batch motifs"] | None = None
    coarse: PerSequence | None = None
    fine: PerSequence | None = None

    def distinct(self) -> Designed:
        """The first of each sequence."""
        place = self.tokens.unique(dim=0, return_inverse=True)[1]
        first = torch.full((int(place.max()) + 1,), len(place)).scatter_reduce(
            0, place, torch.arange(len(place)), "amin"
        )
        return self[first]


def published_metrics(
    found: Designed, reference: Tokens, reference_hits: Int[Tensor, " motifs"] | None = None, column: int = HEPG2_OPEN
) -> FiveMetrics:
    """As published; reference: the data's top .1 %; column: 0, as in the numbers released with SEPO."""
    counts, its_counts = (kmer_counts(tokens, KMER, LETTERS) for tokens in (found.tokens, reference))
    occurs = (counts > 0) | (its_counts > 0)
    return FiveMetrics(
        median(found.activity),
        float((found.access[:, column] > OPEN).double().mean()),
        pearson(counts[occurs], its_counts[occurs]),
        _motifs(found, reference_hits, in_both=True),
        None if found.coarse is None else median(found.coarse),
    )


def corrected_metrics(
    found: Designed, reference: Tokens, reference_hits: Int[Tensor, " motifs"] | None = None
) -> FiveMetrics:
    """Of distinct sequences, over all words and all motifs that stand in either set, from the better bound."""
    distinct = found.distinct()
    return FiveMetrics(
        median(distinct.activity),
        float((distinct.access[:, HEPG2_OPEN] > OPEN).double().mean()),
        pearson(*(kmer_counts(tokens, KMER, LETTERS) for tokens in (distinct.tokens, reference))),
        _motifs(distinct, reference_hits, in_both=False),
        None if distinct.fine is None else median(distinct.fine),
    )


def log_likelihoods(
    pretrained: Denoiser, tokens: Tokens, draws: int = 32, seed: int = 0, at_once: int = 64
) -> tuple[PerSequence, PerSequence]:
    """The bound on the grid of 128 times, one draw each, and in the count form with `draws`, [batch] in nats each."""
    coarse = grid_log_likelihood(pretrained, tokens, seed=seed)
    fine = []
    with evaluating(pretrained.network):
        for start in range(0, len(tokens), at_once):
            part = tokens[start : start + at_once].to(pretrained.device)
            chance = Chance.seeded(seed, range(start, start + len(part)), 1, pretrained.device)
            fine.append(-bound(pretrained, part, torch.ones_like(part, dtype=torch.bool), chance, None, draws).cpu())
    return coarse, torch.cat(fine)


def median(values: Float[Tensor, " n"]) -> float:
    """The mean of the two middle ones, where there are two."""
    return float(values.double().quantile(0.5))


def pearson(first: Int[Tensor, " n"], second: Int[Tensor, " n"]) -> float:
    return float(torch.corrcoef(torch.stack([first, second]).double())[0, 1])


def _motifs(found: Designed, reference: Int[Tensor, " motifs"] | None, in_both: bool) -> float | None:
    if found.hits is None or reference is None:
        return None
    correlation = hit_correlation(found.hits.sum(0), reference, in_both)
    return None if math.isnan(correlation) else correlation

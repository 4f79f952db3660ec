"""The enhancer benchmark of DRAKES, from the files that its authors published: 200 letters, activity in HepG2 cells.

`DRAKES_data.zip`, unpacked, holds the sequences, the pretrained model, and three oracles fitted with gReLU: one to
chromosomes 1 to 11 and one to the others, of which one is for rewards and one for reports, and one of open chromatin
(Fine-Tuning Discrete Diffusion Models via Reward Optimization, arXiv 2410.13643, section 6.1; the sequences: Machine-
guided design of cell-type-targeting cis-regulatory elements, Nature 634, 2024). The reward is the training oracle, as
there: never the one that reports.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor

from sepo.diffusion.denoiser import Denoiser
from sepo.diffusion.process import Absorbing
from sepo.evaluation.enhancers import Designed, corrected_metrics, log_likelihoods, published_metrics
from sepo.evaluation.motif_hits import motif_hits
from sepo.evaluation.motifs import Motifs, read_motifs
from sepo.evaluation.sequences import distinct_fraction, mean_hamming_distance
from sepo.models import as_denoiser, load
from sepo.models.networks.dna_cnn import DnaCnn, DnaCnnConfig
from sepo.oracles import LightningOracle, Measurements, load_lightning, read_measurements
from sepo.samplers.guided import SoftReward
from sepo.tasks.base import Row, Task, TokenRows, device_for, stacked

FILES = {
    "table": "mdlm/gosai_data/processed_data/gosai_all.csv",
    "pretrained": "mdlm/outputs_gosai/pretrained.ckpt",
    "reward": "mdlm/outputs_gosai/lightning_logs/reward_oracle_ft.ckpt",
    "judge": "mdlm/outputs_gosai/lightning_logs/reward_oracle_eval.ckpt",
    "open": "mdlm/gosai_data/binary_atac_cell_lines.ckpt",
}
"""Below the folder that the archive was unpacked to."""
HEPG2 = 0
HELD = 2048
"""Sequences that `sepo pretrain` holds out; the published validation set is part of its training set."""


@dataclass(frozen=True)
class Enhancer(Task):
    """The files, and what is measured of samples.

    Args:
        data: the folder that DRAKES_data.zip was unpacked to, with mdlm in it.
        motifs: a file of motifs (JASPAR's, in its own or the MEME format), for the motif correlation; null: none.
        likelihood: the log-likelihood under the published pretrained model; 128 + draws network evaluations a sample.
        draws: network evaluations per sample of its corrected form.
        top: share of the table with the highest activity, which samples are compared with.
        hidden_size: channels of a fresh generator.
        stacks: its convolutions of each dilation.
        device: of the oracles and the pretrained model; null: a GPU if there is one.
    """

    data: str = "DRAKES_data"
    motifs: str | None = None
    likelihood: bool = True
    draws: int = 32
    top: float = 0.001
    hidden_size: int = 128
    stacks: int = 4
    device: str | None = None

    def path(self, name: str) -> Path:
        """One of FILES.

        Raises:
            ValueError: it is not there.
        """
        home = Path(self.data)
        inside = [home, *sorted(each.parent for each in home.glob("*/mdlm"))]
        found = [each / FILES[name] for each in inside if (each / FILES[name]).is_file()]
        if not found:
            raise ValueError(
                f"{home / FILES[name]} is not there: unpack the authors' DRAKES_data.zip (its address is in the README "
                "of ChenyuWang-Monica/DRAKES) and name its folder with --task.data."
            )
        return found[0]

    @cached_property
    def measured(self) -> Measurements:
        return read_measurements(str(self.path("table")), sequence="seq", activity="hepg2")

    @cached_property
    def _order(self) -> Tensor:
        return torch.randperm(len(self.measured), generator=Generator().manual_seed(0))

    @property
    def _held(self) -> int:
        return min(len(self.measured) // 20, HELD)

    def corpus(self) -> Sequence[Row]:
        return TokenRows(self.measured.tokens[self._order[self._held :]])

    def heldout(self) -> Sequence[Row] | None:
        return TokenRows(self.measured.tokens[self._order[: self._held]])

    def denoiser(self) -> Denoiser:
        config = DnaCnnConfig(5, self.measured.length, self.hidden_size, self.stacks)
        return as_denoiser(DnaCnn(config), Absorbing(5, mask=4))

    def oracle(self, name: str) -> LightningOracle:
        """reward, judge or open."""
        return load_lightning(self.path(name), HEPG2, device_for(self.device))

    def soft_reward(self, device: torch.device) -> SoftReward | None:
        return load_lightning(self.path("reward"), HEPG2, device).soft

    @cached_property
    def _reward(self) -> LightningOracle:
        return self.oracle("reward")

    @cached_property
    def _judges(self) -> tuple[LightningOracle, LightningOracle]:
        return self.oracle("judge"), self.oracle("open")

    @cached_property
    def _pretrained(self) -> Denoiser:
        return load(self.path("pretrained"), device_for(self.device), pickles=True)

    @cached_property
    def _motifs(self) -> Motifs | None:
        return None if self.motifs is None else read_motifs(self.motifs)

    def reward(
        self, prompts: Sequence[Any], completions: Sequence[Any], completion_ids: Sequence[list[int]], **columns: Any
    ) -> list[float]:
        return self._reward(self._tokens(completions)).tolist()

    def spelled(self, completions: Sequence[Any]) -> list[str] | None:
        return self.measured.alphabet.words(completions)

    def metrics(self, prompts: Sequence[Any], completions: Sequence[Any], **columns: Any) -> dict[str, float]:
        """The five metrics corrected, the same with _published, and what tells how far to trust them: the reward
        oracle's median, the share of distinct samples, the share that the judge puts beyond the data's top.
        """
        tokens = self._tokens(completions)
        judge, access = self._judges
        coarse, fine = log_likelihoods(self._pretrained, tokens, self.draws) if self.likelihood else (None, None)
        hits = None if self._motifs is None else motif_hits(tokens, self._motifs)
        found = Designed(tokens, judge(tokens), access.tracks(tokens), hits, coarse, fine)
        compared = (self._top, self._top_hits)
        return {
            **corrected_metrics(found, *compared).named(),
            **published_metrics(found, *compared).named("_published"),
            "atac_accuracy_column_0": published_metrics(found, *compared, column=0).atac_accuracy,
            "reward_median": float(self._reward(tokens).median()),
            "beyond_data": float((found.activity > self._cut).double().mean()),
            "distinct": distinct_fraction(tokens),
            "pairwise_distance": mean_hamming_distance(tokens) if len(tokens) > 1 else 0.0,
        }

    @cached_property
    def _cut(self) -> float:
        """The activity that `top` of the table passes."""
        return float(self.measured.activity.double().quantile(1 - self.top))

    @cached_property
    def _top(self) -> Tensor:
        best = self.measured.tokens[self.measured.activity > self._cut]
        if not len(best):
            raise ValueError(f"top={self.top}: no sequence of the {len(self.measured)} is above; take a larger share.")
        return best

    @cached_property
    def _top_hits(self) -> Tensor | None:
        return None if self._motifs is None else motif_hits(self._top, self._motifs).sum(0)

    def _tokens(self, completions: Sequence[Any]) -> Tensor:
        return torch.from_numpy(stacked(completions, self.measured.length))

"""The options of `sepo design`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sepo.oracles import names_command, require_apart
from sepo.samplers.guided import SOFT, guidance_options
from sepo.tasks.base import device_for

_SHARED = {"seed": "--seed", "output_dir": "--output"}
TAKEN = {
    "pretrain": _SHARED,
    "sft_kwargs": {"model": "--generator", "dataset": "--sft", **_SHARED},
    "finetune": {"model": "--generator", **_SHARED},
}
"""Options of the stages that this command gives them, and the option that does it."""


@dataclass(frozen=True)
class Design:
    """What is designed, from what.

    Args:
        data: the table: csv, tsv, parquet, or fasta with name=value in its headers; .gz too.
        sequence: its column of sequences.
        activity: its column of the activity that is to be raised.
        second: its column of another assay, reported and never rewarded; null: there is none.
        group: its column of chromosomes, clusters or families, by which the oracles are kept apart; null without
            cluster: rows are drawn one by one, which says nothing of related sequences.
        cluster: in place of such a column: sequences that have so many consecutive letters in common are of one group,
            such as 24 of DNA or 10 of proteins.
        reward_groups: groups that the reward's oracle is fitted to; null: the groups are shared out.
        judge_groups: groups that the judge's oracle is fitted to.
        unseen_groups: groups that neither sees, on which both are tested.
        alphabet: dna, rna, protein, or the letters.
        output: the folder of everything.
        num: designs.
        doubt: standard deviations between the members of the reward's ensemble that are taken off its mean; of an
            oracle from outside that is no ensemble nothing is.
        members: networks in each ensemble.
        epochs: of fitting an oracle at most; null: 12, of a small table as many as make 800 updates.
        hidden_size: channels of the generator.
        stacks: its convolutions of each dilation.
        seed: of all chance.
        pretrain: options of `sepo pretrain`, such as --pretrain.max_steps 2000.
        finetune: options of `sepo finetune`, such as --finetune.beta 0.05.
        sft: share of the reward's sequences, the most active ones, to which a copy of the generator is fine-tuned first
            (supervised fine-tuning, on likelihood); SEPO then begins at the copy, and its price is still paid to the
            generator. null: SEPO begins at the generator.
        sft_kwargs: options of that `sepo pretrain`, such as --sft_kwargs.max_steps 400.
        generator: folder of a generator of your own, in place of the one that would be trained.
        generator_init_kwargs: how it is loaded, as the options of sepo.load: --generator_init_kwargs.pickles true
            admits a published .ckpt.
        guidance: best_of_n, svdd, smc, tds or classifier, led by the reward's oracle while the designs are drawn, or
            classifier_free, led by no oracle: away from the generator, as if the price beta had been less; null: none.
        guidance_kwargs: its options, as of `sepo sample`; unconditional is the generator where it is not named.
        oversample: sequences that are drawn for each design that is kept.
        design_steps: network evaluations of each at most; null: one site per step, under guidance (but for best_of_n
            and classifier_free) the 64 or 128 of its sampler.
        motifs: a file of motifs (JASPAR's, in its own or the MEME format) that are counted in designs of DNA and
            compared with those of the table's best; null: none.
        reward_oracle: an oracle of your own, in place of the one that would be fitted: package.module:function or
            file.py:function, of a list of sequences; a command line, which reads FASTA from standard input or from
            {fasta} and prints a number per line; a .ckpt of gReLU with :COLUMN; or a folder such as
            runs/design/oracles/reward.
        judge_oracle: the same for the oracle that judges.
        second_oracle: the same for the oracle that is reported beside it, with or without a column of a second assay.
        oracle_timeout: seconds that a command may take for 256 sequences or fewer.
        device: of the oracles, and of the tuned generator that draws the designs: cpu, cuda, ...; null: a GPU if there
            is one. It decides nothing of what is kept. The trainings have options of their own, such as
            --finetune.use_cpu.
    """

    data: str | None = None
    sequence: str = "sequence"
    activity: str = "activity"
    second: str | None = None
    group: str | None = None
    cluster: int | None = None
    reward_groups: list[str | int | float] | None = None
    judge_groups: list[str | int | float] | None = None
    unseen_groups: list[str | int | float] | None = None
    alphabet: str = "dna"
    output: str = "runs/design"
    num: int = 256
    doubt: float = 1.0
    members: int = 2
    epochs: int | None = None
    hidden_size: int = 64
    stacks: int = 4
    seed: int = 0
    pretrain: dict[str, Any] | None = None
    finetune: dict[str, Any] | None = None
    sft: float | None = None
    sft_kwargs: dict[str, Any] | None = None
    generator: str | None = None
    generator_init_kwargs: dict[str, Any] | None = None
    guidance: str | None = None
    guidance_kwargs: dict[str, Any] | None = None
    oversample: int = 4
    design_steps: int | None = None
    motifs: str | None = None
    reward_oracle: str | None = None
    judge_oracle: str | None = None
    second_oracle: str | None = None
    oracle_timeout: float = 600.0
    device: str | None = None

    def __post_init__(self) -> None:
        device_for(self.device)
        if self.guidance is not None:
            guidance_options(self.guidance, self.guidance_kwargs or {})
        elif self.guidance_kwargs:
            raise ValueError(f"guidance_kwargs={self.guidance_kwargs}: there is no guidance; name one with --guidance.")
        if self.guidance in SOFT and self._rewarded_by_a_command():
            raise ValueError(
                f"guidance={self.guidance!r} follows the gradient of the reward, and reward_oracle="
                f"{self.reward_oracle!r} is a command, which has none: leave it out, or choose best_of_n, svdd or smc."
            )
        for name in ("num", "members", "epochs", "hidden_size", "stacks", "oversample", "design_steps"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: must be at least 1.")
        if self.sft is not None and not 0 < self.sft <= 1:
            raise ValueError(f"sft={self.sft}: must be a share above 0 and up to 1, such as 0.1.")
        if self.sft is None and self.sft_kwargs:
            raise ValueError(f"sft_kwargs={self.sft_kwargs}: there is no SFT; name the share with --sft, such as 0.1.")
        if not self.doubt >= 0:
            raise ValueError(
                f"doubt={self.doubt}: must be 0, which trusts the mean, or more, which pays for disagreement."
            )
        self._require_free()
        require_apart(self.reward_oracle, self.judge_oracle, self.folder / "oracles")
        if self.generator is None and self.generator_init_kwargs:
            raise ValueError(
                f"generator_init_kwargs={self.generator_init_kwargs}: they are of a generator of your own; name it "
                "with --generator."
            )

    def _require_free(self) -> None:
        """What a stage would do without, or another option says."""
        for stage, taken in TAKEN.items():
            for name, option in taken.items():
                if name in (getattr(self, stage) or {}):
                    given = f"{stage}.{name}={getattr(self, stage)[name]!r}"
                    raise ValueError(f"{given}: `sepo design` says it itself; leave it out, and set {option} instead.")
        if self.generator is not None and self.pretrain:
            raise ValueError(
                f"pretrain={self.pretrain}: nothing is pretrained, since generator={self.generator!r} is taken; leave "
                "one of them out."
            )

    def _rewarded_by_a_command(self) -> bool:
        return self.reward_oracle is not None and names_command(self.reward_oracle)

    @property
    def outside(self) -> dict[str, str]:
        """The oracles of one's own, by what they are for."""
        named = {"reward": self.reward_oracle, "judge": self.judge_oracle, "other": self.second_oracle}
        return {name: each for name, each in named.items() if each is not None}

    @property
    def reward_is_ensemble(self) -> bool:
        """Whether its members may disagree: fitted here or by another run."""
        return self.reward_oracle is None or Path(self.reward_oracle).is_dir()

    @property
    def generator_options(self) -> dict[str, Any]:
        """How a generator of one's own is loaded."""
        if self.generator is None:
            return {}
        return self.generator_init_kwargs or (self.finetune or {}).get("model_init_kwargs") or {}

    @property
    def folder(self) -> Path:
        return Path(self.output)

    @property
    def base(self) -> str:
        """The generator: what designs are compared with, and what beta prices the way from."""
        return self.generator or str(self.folder / "generator")

    @property
    def start(self) -> str:
        """Where SEPO begins."""
        return self.base if self.sft is None else str(self.folder / "sft")

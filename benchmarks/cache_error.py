"""What a cache of keys and values saves when confidence decoding fills blocks, and how far it is from exact laws.

    random    a Llama without its causal mask, with random weights; a prompt of 64 ids and 64 free sites
    trained   a small one that learned a language: one of 7 digits 16 times, then 64 that go on by that digit each (mod
              7) from a first one drawn anew
    8B        LLaDA's shape with random weights in bf16, 256 free sites: --full, on a GPU

Each is sampled site by site, without a cache, with that of the prefix, and with that of all outside the block, in
blocks of 8 and 32. *Sites*: the share that is computed in the evaluations. *TV*: total variation between the law that
the sampler drew from and the exact one at the same state, mean over the masks of the block and all evaluations. *Log
p*: mean |log p - log p_exact| of the tokens drawn, in nats. *Right*: the share of digits that follow on the one before.

    python benchmarks/cache_error.py [--models random trained] [--full] [--device cuda]

writes runs/bench/cache_error.json; a run that was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import torch
from cells import Cells, Record
from rich.console import Console
from rich.table import Table
from text_sizes import SIZES, Size, network_of
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

from sepo.diffusion.canvas import Canvas
from sepo.diffusion.denoiser import CachedCall, Denoiser, Meter
from sepo.diffusion.likelihood import masked_views, path_log_prob
from sepo.diffusion.process import Absorbing
from sepo.diffusion.rollout import MaskedPath
from sepo.diffusion.views import read
from sepo.models import as_denoiser
from sepo.models.language_model import both_ways
from sepo.ops import Chance
from sepo.samplers import Confidence, roll

DIGITS, PROMPT, COMPLETION = 7, 16, 64
CACHES = (None, "prefix", "block")
KEY = ("device", "model", "block", "cache")
TOY = Size(hidden=128, layers=3, heads=4, vocab=1024, mask=1023, mlp=384, prompt=64, completion=64)


@dataclass(frozen=True)
class Settings:
    """batch: sequences that are sampled at once; repeats: of what is timed; steps: of training."""

    device: str
    batch: int
    repeats: int
    steps: int
    threads: int

    @property
    def machine(self) -> str:
        return torch.cuda.get_device_name(self.device) if self.device.startswith("cuda") else "cpu"

    def now(self) -> float:
        """Seconds: of the wall on a GPU, of this process's CPU else."""
        if self.device.startswith("cuda"):
            torch.cuda.synchronize(self.device)
            return time.perf_counter()
        return time.process_time()


def language(batch: int, generator: torch.Generator) -> Tensor:
    """Texts [batch, 16 + 64]."""
    by, first = torch.randint(DIGITS, (2, batch, 1), generator=generator)
    return torch.cat((by.expand(-1, PROMPT), (first + by * torch.arange(COMPLETION)) % DIGITS), dim=1)


def right(text: Tensor) -> float:
    """The share of the digits behind the first that go on by the digit of the prompt."""
    by = text[:, PROMPT:].diff(dim=1) % DIGITS
    return (by == text[:, :1]).float().mean().item()


def trained(settings: Settings) -> tuple[Denoiser, Canvas]:
    """A network of two layers and 0.08 million parameters after `steps` batches of 32, and texts it has not seen."""
    torch.manual_seed(0)
    shape = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    rotary = {"rope_type": "default", "rope_theta": 100.0}
    config = LlamaConfig(vocab_size=DIGITS + 1, max_position_embeddings=128, rope_parameters=rotary, **shape)
    process = Absorbing(DIGITS + 1, DIGITS)
    policy = as_denoiser(both_ways(LlamaForCausalLM(config)), process)
    optimizer = torch.optim.AdamW(policy.network.parameters(), lr=5e-3, weight_decay=0.0)
    generator = torch.Generator().manual_seed(1)
    for step in range(settings.steps):
        for group in optimizer.param_groups:
            group["lr"] = 5e-3 * min(1.0, (step + 1) / 50) * (1 - step / settings.steps) ** 0.5
        text = language(32, generator)
        views = masked_views(text, behind_prompt(text, PROMPT), None, process, Chance.of(step, 32))
        loss = -read(policy, views).log_prob.sum() / (views.weight != 0).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    policy.network.to(settings.device).eval()
    text = language(settings.batch, generator)
    return policy, Canvas(text, behind_prompt(text, PROMPT)).to(settings.device)


def behind_prompt(text: Tensor, prompt: int) -> Tensor:
    return (torch.arange(text.shape[1]) >= prompt).expand(text.shape)


def random_weights(size: Size, settings: Settings) -> tuple[Denoiser, Canvas]:
    """A Llama whose layers act as those of width 4096 do at a standard deviation of 0.02, whatever its width."""
    torch.manual_seed(0)
    network = network_of(size, settings.device)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.Linear):
                module.weight *= (4096 / size.hidden) ** 0.5
    policy = as_denoiser(network.eval(), Absorbing(size.vocab, size.mask))
    generator = torch.Generator().manual_seed(1)
    text = torch.randint(size.mask, (settings.batch, size.prompt + size.completion), generator=generator)
    return policy, Canvas(text, behind_prompt(text, size.prompt)).to(settings.device)


class Compared:
    """A cached call that also makes the exact one, and the total variation between the two at masks."""

    def __init__(self, policy: Denoiser) -> None:
        self.policy, self.inner = policy, policy.cached_call
        self.distances: list[Tensor] = []

    def __call__(
        self,
        network: nn.Module,
        xt: Tensor,
        sigma: Tensor,
        attend: Any,
        sites: Tensor,
        kept: Any = None,
        at: Any = None,
    ) -> Any:
        assert isinstance(self.policy.process, Absorbing) and self.inner is not None
        logits, kept = self.inner(network, xt, sigma, attend, sites, kept, at)
        masked = xt.gather(1, sites) == self.policy.process.mask
        laws = [each.float() for each in (logits, self.policy.call(network, xt, sigma, attend, sites))]
        for law in laws:
            law[..., self.policy.process.mask] = -torch.inf
        found, exact = (law.softmax(-1) for law in laws)
        self.distances.append((0.5 * (found - exact).abs().sum(-1))[masked])
        return logits, kept


@torch.no_grad()
def distance(policy: Denoiser, canvas: Canvas, sampler: Confidence) -> Record:
    """How far the laws and the log-probabilities of one rollout are from those without a cache."""
    compared: CachedCall = Compared(policy)
    path = roll(sampler, replace(policy, cached_call=compared, meter=Meter()), canvas, Chance.of(1, len(canvas)))
    assert isinstance(path, MaskedPath)
    difference = (path.log_prob - path_log_prob(replace(policy, meter=Meter()), path)).abs()[canvas.free]
    variation = torch.cat(compared.distances).mean().item() if sampler.cache else 0.0
    return {"total_variation": variation, "log_prob": difference.mean().item()}


def measured(model: str, policy: Denoiser, canvas: Canvas, sampler: Confidence, settings: Settings) -> Record:
    seconds, paths, policy = [], [], replace(policy, meter=Meter())
    for repeat in range(settings.repeats):
        began = settings.now()
        paths.append(roll(sampler, policy, canvas, Chance.of(2 + repeat, len(canvas))))
        seconds.append(settings.now() - began)
    followed = sum(right(path.x0.cpu()) for path in paths) / len(paths) if model == "trained" else None
    return {
        "evaluations": policy.meter.evaluations // settings.repeats,
        "sites": policy.meter.sites / (policy.meter.evaluations * canvas.tokens.shape[1]),
        "seconds": median(seconds),
        "right": followed,
        **distance(policy, canvas, sampler),
    }


def table_of(cells: Cells, models: Sequence[str], settings: Settings) -> Table:
    table = Table(title=f"{settings.batch} sequences on {settings.machine}, torch {torch.__version__}")
    for column in ("", "block", "cache", "sites", "seconds", "times faster", "TV", "log p", "right"):
        table.add_column(column, justify="left" if column in ("", "cache") else "right")
    for record in (record for model in models for record in cells.where(device=settings.machine, model=model)):
        (exact,) = cells.where(device=settings.machine, model=record["model"], block=record["block"], cache="none")
        table.add_row(
            record["model"],
            record["block"],
            record["cache"],
            f"{record['sites']:.0%}",
            f"{record['seconds']:.2f}",
            f"{exact['seconds'] / record['seconds']:.2f}",
            f"{record['total_variation']:.4f}",
            f"{record['log_prob']:.4f}",
            "" if record["right"] is None else f"{record['right']:.1%}",
        )
    return table


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=("random", "trained"), default=["random", "trained"])
    parser.add_argument("--full", action="store_true", help="the shape of LLaDA-8B, in place of these: needs a GPU")
    parser.add_argument("--prompt", type=int, help="ids before the free sites of random weights; default: 64")
    parser.add_argument("--blocks", nargs="+", type=int, default=[8, 32])
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=2, help="of what is timed; medians are told")
    parser.add_argument("--steps", type=int, default=240, help="of training")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path, default=Path("runs/bench/cache_error.json"))
    given = parser.parse_args(argv)
    settings = Settings(given.device, given.batch, given.repeats, given.steps, torch.get_num_threads())
    size = SIZES["8B"] if given.full else TOY
    size = size if given.prompt is None else replace(size, prompt=given.prompt)
    models = ["8B"] if given.full else given.models
    cells = Cells(given.out, KEY, {**asdict(settings), "prompt": size.prompt, "torch": torch.__version__})
    for model in models:
        policy, canvas = trained(settings) if model == "trained" else random_weights(size, settings)
        for block in given.blocks:
            for cache in CACHES:
                cell = (settings.machine, model, str(block), cache or "none")
                if not cells.has(*cell):
                    sampler = Confidence(block_length=block, cache=cache)
                    cells.put(*cell, records=[measured(model, policy, canvas, sampler, settings)])
    Console(width=120).print(table_of(cells, models, settings))


if __name__ == "__main__":
    main()

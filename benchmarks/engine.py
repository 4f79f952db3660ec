"""Where the time of a training step goes, what a rollout costs beside its forwards, and the memory at the peak.

Each case is a real SEPOTrainer run with random weights: first-hitting rollouts in few steps, next-site reading of a few
of their states, a log line per step. The share outside the network is everything but its forward and its backward. A
rollout is compared with the bare forwards that it made, on the same inputs, interleaved. On one CPU thread seconds are
of the process's CPU, else of the wall; figures are medians over steps or repeats.

    python benchmarks/engine.py [--cases 10M 85M 10M-50k 85M-50k digits] [--device cuda --bf16] [--toy]
                                                                                       writes runs/bench/engine.json
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import platform
import resource
import statistics
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
import transformers
from stopwatch import BACKWARD, FORWARD, SECTIONS, Clock, Laps, Stopwatch
from torch import nn
from transformers import PrinterCallback

from sepo.diffusion.canvas import Canvas
from sepo.diffusion.denoiser import Denoiser, evaluating
from sepo.diffusion.process import Absorbing
from sepo.models.families import as_denoiser
from sepo.models.networks.dit import DiT, DiTConfig
from sepo.ops import Chance
from sepo.samplers import FirstHitting, roll
from sepo.training import SEPOConfig, SEPOTrainer


@dataclass(frozen=True)
class Case:
    """A network and how it is trained. hidden = 0: the digits task with its own network and reward."""

    hidden: int = 0
    layers: int = 0
    heads: int = 1
    vocab: int = 0
    length: int = 64
    batch: int = 8
    group: int = 8
    steps: int = 16
    states: int = 4
    beta: float = 0.0

    def policy(self, seed: int) -> Denoiser:
        torch.manual_seed(seed)
        if not self.hidden:
            from sepo.tasks.digits import Digits

            return Digits().denoiser()
        config = DiTConfig(
            vocab_size=self.vocab,
            length=self.length,
            hidden_size=self.hidden,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
        )
        network = DiT(config)
        for parameter in network.parameters():
            if not parameter.any():
                nn.init.normal_(parameter, std=0.02)
        return as_denoiser(network, Absorbing(self.vocab, self.vocab - 1))

    def reward(self) -> Any:
        if not self.hidden:
            from sepo.tasks.digits import Digits

            return Digits().reward
        return lambda completions, **columns: [float((each % 2).mean()) for each in completions]


CASES = {
    "10M": Case(hidden=288, layers=8, heads=6, vocab=64),
    "85M": Case(hidden=768, layers=12, heads=12, vocab=64),
    "10M-50k": Case(hidden=288, layers=8, heads=6, vocab=50_258),
    "85M-50k": Case(hidden=768, layers=12, heads=12, vocab=50_258),
    "digits": Case(batch=128, group=128, beta=0.025),
}
TOY = {
    "toy": Case(hidden=16, layers=1, heads=2, vocab=7, length=6, steps=3, states=2),
    "toy-beta": Case(hidden=16, layers=1, heads=2, vocab=7, length=6, steps=3, states=2, beta=0.1),
}


@dataclass(frozen=True)
class Settings:
    """updates: optimizer steps measured, after one to warm up; repeats: pairs of rollout and bare forwards, and
    full_repeats with one site per step (0: leave these out).
    """

    device: str = "cpu"
    bf16: bool = False
    threads: int = 1
    updates: int = 10
    repeats: int = 7
    full_repeats: int = 3
    seed: int = 0

    @property
    def clock(self) -> Clock:
        return Clock(torch.device(self.device), wall=self.device != "cpu" or self.threads > 1)


def measure(case: Case, settings: Settings) -> dict[str, Any]:
    """All figures of one case; peak memory is that of this process."""
    torch.set_num_threads(settings.threads)
    policy = case.policy(settings.seed)
    parameters = sum(each.numel() for each in policy.network.parameters())
    step = training_step(case, policy, settings)
    memory = peak_memory(settings.device)
    policy = replace(policy, length=case.length)
    few = rollout_ratio(policy, case, settings, case.steps, settings.repeats)
    full = rollout_ratio(policy, case, settings, None, settings.full_repeats) if settings.full_repeats else None
    return {
        "parameters": parameters,
        **asdict(case),
        **step,
        "peak_memory_mib": memory,
        "rollout_ratio": few,
        "rollout_ratio_full": full,
    }


def training_step(case: Case, policy: Denoiser, settings: Settings) -> dict[str, Any]:
    """Seconds per optimizer step, shares by section, and network evaluations."""
    watch = Stopwatch(settings.clock)
    policy = replace(policy, call=watch.network(policy.call))
    laps = Laps(watch, lambda: (policy.meter.evaluations, policy.meter.with_gradient))
    with tempfile.TemporaryDirectory() as folder, watch.watching():
        args = SEPOConfig(
            output_dir=folder,
            max_steps=settings.updates + 1,
            per_device_train_batch_size=case.batch,
            num_generations=case.group,
            sampling_steps=case.steps,
            states=case.states,
            beta=case.beta,
            learning_rate=1e-4,
            logging_steps=1.0,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            use_cpu=settings.device == "cpu",
            bf16=settings.bf16,
            seed=settings.seed,
        )
        trainer = SEPOTrainer(model=policy, reward_funcs=case.reward(), args=args, callbacks=[laps])
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    totals = [sum(lap.values()) for lap in laps.laps[1:]]
    shares = {
        name: statistics.median(lap.get(name, 0.0) / total for lap, total in zip(laps.laps[1:], totals, strict=True))
        for name in (FORWARD, BACKWARD, *SECTIONS)
    }
    outside = [1 - (lap[FORWARD] + lap[BACKWARD]) / total for lap, total in zip(laps.laps[1:], totals, strict=True)]
    (before, _), (after, gradient) = laps.counts[-2:]
    return {
        "seconds_per_step": statistics.median(totals),
        "outside_network": statistics.median(outside),
        "shares": shares,
        "evaluations_per_step": after - before,
        "evaluations_per_step_with_gradient": gradient - laps.counts[-2][1],
    }


@torch.no_grad()
def rollout_ratio(policy: Denoiser, case: Case, settings: Settings, steps: int | None, repeats: int) -> dict[str, Any]:
    """Time of a first-hitting rollout / time of the same forwards alone, pair by pair in alternating order."""
    recorded: list[tuple[Any, ...]] = []

    def record(network: nn.Module, *inputs: Any) -> Any:
        recorded.append(inputs)
        return policy.call(network, *inputs)

    def rollout(each: Denoiser) -> None:
        roll(FirstHitting(steps), each, canvas, Chance.of(settings.seed, case.batch, each.device))

    def bare() -> None:
        for inputs in recorded:
            policy.call(policy.network, *inputs)

    clock = settings.clock
    canvas = Canvas.blank(case.batch, case.length, policy.device)
    ratios = []
    with evaluating(policy.network), torch.autocast(policy.device.type, torch.bfloat16, settings.bf16):
        rollout(replace(policy, call=record))
        bare()
        for repeat in range(repeats):
            seconds = {}
            for part in ("rollout", "bare") if repeat % 2 else ("bare", "rollout"):
                start = clock()
                rollout(policy) if part == "rollout" else bare()
                seconds[part] = clock() - start
            ratios.append(seconds["rollout"] / seconds["bare"])
    return {
        "median": statistics.median(ratios),
        "least": min(ratios),
        "most": max(ratios),
        "forwards": len(recorded),
        "evaluations": sum(len(inputs[0]) for inputs in recorded),
    }


def peak_memory(device: str) -> float:
    """MiB: of tensors on a GPU, else of the whole process (resident)."""
    if device != "cpu":
        return torch.cuda.max_memory_allocated(device) / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def table(results: dict[str, dict[str, Any]]) -> str:
    """One column per case."""
    rows: list[tuple[str, Any]] = [
        ("parameters, millions", lambda r: f"{r['parameters'] / 1e6:.1f}"),
        ("batch x length, vocabulary", lambda r: f"{r['batch']} x {r['length']}, {r['vocab'] or 9}"),
        ("seconds per optimizer step", lambda r: f"{r['seconds_per_step']:.3f}"),
        ("outside the network (aim < 10 %)", lambda r: f"{r['outside_network']:.1%}"),
        *((f"  {name}", lambda r, name=name: f"{r['shares'][name]:.2%}") for name in (FORWARD, BACKWARD, *SECTIONS)),
        ("evaluations per step", lambda r: str(r["evaluations_per_step"])),
        ("  with gradient", lambda r: str(r["evaluations_per_step_with_gradient"])),
        ("evaluations per rollout", lambda r: str(r["rollout_ratio"]["evaluations"])),
        ("rollout / its forwards (aim <= 1.1)", lambda r: f"{r['rollout_ratio']['median']:.3f}"),
        (
            "  one site per step",
            lambda r: f"{r['rollout_ratio_full']['median']:.3f}" if r["rollout_ratio_full"] else "-",
        ),
        ("peak memory, MiB", lambda r: f"{r['peak_memory_mib']:.0f}"),
    ]
    lines = [["", *results], *([label, *(cell(each) for each in results.values())] for label, cell in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join(
        "  ".join(text.ljust(width) if not column else text.rjust(width) for column, (text, width) in enumerate(pairs))
        for pairs in (list(zip(line, widths, strict=True)) for line in lines)
    )


def isolated(case: Case, settings: Settings) -> dict[str, Any]:
    """`measure` in a process of its own, so that its peak memory is the case's."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(measure, case, settings).result()


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=["10M", "85M", "10M-50k", "digits"])
    parser.add_argument("--toy", action="store_true", help="two tiny cases in seconds, in this process")
    parser.add_argument("--out", type=Path, default=Path("runs/bench/engine.json"))
    for name, default in asdict(Settings()).items():
        if isinstance(default, bool):
            parser.add_argument(f"--{name}", action="store_true")
        else:
            parser.add_argument(f"--{name.replace('_', '-')}", type=type(default), default=default)
    given = parser.parse_args(arguments)
    settings = Settings(**{name: getattr(given, name) for name in asdict(Settings())})
    machine = {
        "platform": platform.platform(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "processor": platform.machine() if settings.device == "cpu" else torch.cuda.get_device_name(settings.device),
        "seconds": "wall" if settings.clock.wall else "CPU",
    }
    cases = TOY if given.toy else {name: CASES[name] for name in given.cases}
    print(" ".join(f"{name}={value}" for name, value in {**asdict(settings), **machine}.items()))
    results: dict[str, dict[str, Any]] = {}
    report = {"settings": asdict(settings), "machine": machine, "cases": results}
    given.out.parent.mkdir(parents=True, exist_ok=True)
    for name, case in cases.items():
        results[name] = measure(case, settings) if given.toy else isolated(case, settings)
        given.out.write_text(json.dumps(report, indent=1))
    print(table(results))
    return report


if __name__ == "__main__":
    main()

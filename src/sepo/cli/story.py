"""The story of a run: the sections of its report, from what was judged before and after and logged between."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sepo.cli.judging import Judged
from sepo.cli.samples import Samples, frames, spelled
from sepo.diffusion.denoiser import Denoiser
from sepo.runs import (
    Boards,
    Chart,
    Curves,
    Figure,
    Filmstrip,
    Gallery,
    Headline,
    Metric,
    Panel,
    Pixels,
    Section,
    Table,
    TextColumn,
    Texts,
)
from sepo.runs.completions import brief
from sepo.tasks import Task

FRAMES = 9
TITLES = {
    "reward": ("Reward", ""),
    "kl": ("Path KL to the reference", "nats per sample"),
    "entropy": ("Entropy of the path", "nats per token"),
    "network_evaluations": ("Network evaluations", "sequences through the network"),
    "loss": ("Loss", ""),
    "grad_norm": ("Gradient norm", ""),
}


def headline(before: Judged, after: Judged, summary: Mapping[str, Any]) -> Headline:
    """Reward, path KL and what they cost."""
    figures = [Figure("reward", after.reward, before.reward)]
    if summary.get("path_kl") is not None:
        figures.append(Figure("path KL", summary["path_kl"], unit="nats", note="to the pretrained model, per sample"))
    figures.append(Figure("network evaluations", summary["network_evaluations"], note="sequences through the network"))
    figures.append(Figure("fine-tuning", summary["finetune_seconds"], unit="s"))
    return Headline(figures)


def before_after(task: Task, before: Judged, after: Judged, number: int = 36) -> Section:
    """The first samples of both, side by side; the same chance drew them."""
    panels, columns = [], []
    for title, judged in (("pretrained", before), ("fine-tuned", after)):
        note = f"mean reward {judged.reward:.2f} over {len(judged.samples)} samples"
        pictures = drawn(task, judged.samples, number)
        if pictures is not None:
            panels.append(Panel(title, pictures, text=note))
        else:
            shown = [brief(text) for text in spelled(judged.samples, task, number)]
            columns.append(TextColumn(title, shown, text=note))
    if panels:
        return Gallery("Samples before and after", panels, text="Neither picked nor sorted.")
    return Texts("Samples before and after", columns, text="Neither picked nor sorted.")


def drawn(task: Task, samples: Samples, number: int) -> Pixels | Boards | None:
    """The first samples as the task draws them; None: it does not."""
    tokens = samples.tokens[:number]
    return task.draw(samples.prompts[: len(tokens)], tokens)


def filled_in(task: Task, judged: Judged, policy: Denoiser, title: str, number: int = 4) -> list[Section]:
    """A few samples while they are being filled in; nothing if the task draws none."""
    film = frames(judged.samples, policy, number, FRAMES)
    pictures = task.draw(judged.samples.prompts[: len(film)], film)
    if pictures is None:
        return []
    shares = [f"{round(100 * frame / (FRAMES - 1))} %" for frame in range(FRAMES)]
    return [Filmstrip(title, pictures, shares)]


def curves(logged: Sequence[str], metrics: Sequence[str]) -> Curves:
    """Charts of what was logged: reward, KL, entropy, the task's metrics with their parts, evaluations."""
    families: dict[str, list[str]] = {"reward": ["reward"], "kl": ["kl"], "entropy": ["entropy"]}
    for name in metrics:
        families.setdefault(name.partition("/")[0], []).append(name)
    families |= {name: [name] for name in ("network_evaluations", "loss", "grad_norm")}
    charts = []
    for family, names in families.items():
        known = [name for name in names if name in logged]
        if known:
            title, unit = TITLES.get(family, (_words(family), ""))
            charts.append(
                Chart(title, [Metric(name, _words(name.partition("/")[2]) or title) for name in known], unit=unit)
            )
    return Curves("Along training", charts)


def verdict(columns: Mapping[str, Judged], title: str = "Verdict", text: str = "") -> Table:
    """A row for the reward and each of the task's metrics, a column for each of the models."""
    judged = list(columns.values())
    rows: list[list[Any]] = [["reward", *(each.reward for each in judged)]]
    rows += [[_words(name), *(each.metrics[name] for each in judged)] for name in judged[0].metrics]
    return Table(title, ["", *columns], rows, text=text, emphasis="reward")


def _words(name: str) -> str:
    return name.replace("_", " ").replace("/", ": ")

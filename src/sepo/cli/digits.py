"""What the demo's report says of the digits: pictures, curves, the front over beta, judges, real threes beside them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from sepo.cli.finetune import Finetuned
from sepo.cli.judging import Compared, Judged
from sepo.cli.samples import Samples
from sepo.cli.story import before_after, drawn, filled_in, verdict
from sepo.runs import (
    Chart,
    Curves,
    Figure,
    Guide,
    Headline,
    Metric,
    Note,
    Pixels,
    Section,
    Series,
    before_after_png,
)
from sepo.tasks import Digits

JUDGES = {
    "judge_agreement/nearest_neighbours": "nearest neighbours",
    "judge_agreement/logistic_regression": "logistic regression",
    "judge_agreement/support_vectors": "support vectors",
}
READING = """\
The reward is a random forest's probability that the picture is the digit asked for. It has no gradient, and it saw one
half of the real digits. The judges are other kinds of classifiers that saw only the other half: where the reward rises
and they do not follow, the model has learnt to please the forest. Where diversity falls towards 0, it draws one
prototype.

beta is the price of leaving the pretrained model, in reward per nat of path KL. Without it the reward is highest and
the pictures are all the same."""


def digits_story(done: Finetuned, summary: Mapping[str, Any], cells: Mapping[str, Mapping[str, Any]]) -> list[Section]:
    """The sections of the demo's report."""
    task, compared = _parts(done)
    policy = done.trainer.policy
    return [
        headline(compared, summary, task),
        before_after(task, compared.before, compared.after, 49),
        *filled_in(task, compared.after, policy, "The fine-tuned model at work"),
        *filled_in(task, compared.before, policy, "The pretrained model, with the same chance"),
        curves(task),
        *([front_charts(cells)] if cells else []),
        judges(task, compared),
        Note("How to read this", READING),
    ]


def headline(compared: Compared, summary: Mapping[str, Any], task: Digits) -> Headline:
    before, after = compared.before, compared.after
    share = after.metrics["judge_agreement"]
    figures = [
        Figure("reward", after.reward, before.reward, note="the forest's mean probability"),
        Figure("unseen judges agree", share, before.metrics["judge_agreement"], note=f"they see a {task.digit}"),
        Figure("diversity", after.metrics["diversity_ratio"], note=f"1: as different as real {task.digit}s"),
        Figure("path KL", summary["path_kl"], unit="nats", note="to the pretrained model, per sample"),
        Figure("network evaluations", summary["network_evaluations"], note="one: one sequence through the network"),
        Figure("fine-tuning", summary["finetune_seconds"], unit="s"),
    ]
    return Headline(figures, text=f"Mean over {len(after.samples)} fresh samples of each model.")


def curves(task: Digits) -> Curves:
    """Reward and judges on the same axes: over-optimisation is where they part."""
    judged = [Metric("reward", "reward"), *(Metric(key, name) for key, name in JUDGES.items())]
    charts = [
        Chart("Reward, and the judges it never saw", judged, text="Of the sequences that training collected."),
        Chart("Path KL to the pretrained model", [Metric("kl", "path KL")], unit="nats per sample"),
        Chart(
            "Diversity",
            [Metric("diversity_ratio", "mean pairwise Hamming distance")],
            guides=[Guide(1.0, f"real {task.digit}s")],
            unit=f"real {task.digit}s = 1",
        ),
        Chart("Entropy of the path", [Metric("entropy", "entropy")], unit="nats per pixel"),
        Chart("Network evaluations", [Metric("network_evaluations", "all"), Metric(WITH_GRADIENT, "with gradient")]),
        Chart("Distance to the nearest pretraining image", [Metric("nearest_distance", "distance")], unit="pixels"),
    ]
    return Curves("Along training", charts)


WITH_GRADIENT = "network_evaluations_with_gradient"


def front_charts(cells: Mapping[str, Mapping[str, Any]]) -> Curves:
    """What each beta buys: reward, agreement and diversity over the path KL that they cost."""
    labels = [f"beta {beta}" for beta in cells]
    kl = [each["path_kl"] for each in cells.values()]

    def over_kl(title: str, key: str) -> Chart:
        series = Series(title, kl, [each[key] for each in cells.values()], labels)
        return Chart(title, [series], x_label="path KL, nats per sample")

    charts = [
        over_kl("Reward", "reward_after"),
        over_kl("Agreement of the judges", "judge_agreement"),
        over_kl("Diversity", "diversity_ratio"),
    ]
    return Curves("The front over beta", charts, text="A run of its own for each beta, from one pretrained model.")


def judges(task: Digits, compared: Compared) -> Section:
    """The verdict on the samples before and after, and on real pictures of the digit."""
    columns = {"pretrained": compared.before, "fine-tuned": compared.after, f"real {task.digit}s": real(task)}
    text = (
        "The judges were fitted on the half of the digits that the reward never saw. The real ones are those that the "
        "classifier in question was not fitted on and, for distance and novelty, that pretraining held out."
    )
    return verdict(columns, "Verdict", text)


def real(task: Digits) -> Judged:
    """The same figures of real pictures of the digit, each over those that its classifier or corpus has not seen."""
    to_forest, to_judges, to_model = (
        list(part.of(task.digit)) for part in (task.halves[1], task.halves[0], task.parts[1])
    )
    metrics = task.metrics([None] * len(to_judges), to_judges)
    unseen = task.metrics([None] * len(to_model), to_model)
    metrics |= {name: unseen[name] for name in ("nearest_distance", "novelty")}
    reward = float(np.mean(task.reward([None] * len(to_forest), to_forest, [])))
    return Judged(NO_SAMPLES, reward, {}, metrics)


NO_SAMPLES = Samples([], [], [], {}, [], 0, 0.0)


def picture(done: Finetuned, number: int = 36) -> bytes:
    """before_after.png: samples of the two models side by side."""
    task, compared = _parts(done)
    sides, notes = [], []
    for judged in (compared.before, compared.after):
        pixels = drawn(task, judged.samples, number)
        if not isinstance(pixels, Pixels):
            raise ValueError("The digits are drawn as pixels.")
        sides.append(pixels)
        notes.append(f"reward {judged.reward:.2f}, unseen judges {judged.metrics['judge_agreement']:.2f}")
    return before_after_png(sides[0], sides[1], notes=(notes[0], notes[1]))


def _parts(done: Finetuned) -> tuple[Digits, Compared]:
    if not isinstance(done.task, Digits) or done.compared is None:
        raise ValueError(f"This is the story of the digits, not of {type(done.task).__name__}; use `story`.")
    return done.task, done.compared

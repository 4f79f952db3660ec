"""The law of confidence decoding by enumeration, in plain loops and apart from the sampler."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from itertools import permutations, product
from math import exp, log, prod

import torch

from sepo.diffusion.denoiser import Denoiser
from sepo.evaluation.worlds import Law, World, probabilities

State = tuple[int, ...]
Cut = Callable[[list[float]], list[float]]


def confidence_law(
    policy: Denoiser,
    world: World,
    rule: str = "entropy",
    counts: Sequence[int] = (),
    start: Sequence[int] = (),
    open_to: Sequence[int] = (),
    rule_temperature: float = 0.0,
    cut: Cut = lambda law: law,
    seen: Cut = lambda law: law,
) -> Law:
    """Over `world.sequences`. counts: sites per step, one each if empty; start: all masks if empty; open_to: at each
    step, how many sites from the left may be filled, all if empty; cut: from the law of a site to that which its token
    is drawn from; seen: to that which the rule looks at."""
    first = tuple(start) or (world.letters,) * world.length
    counts = tuple(counts) or (1,) * first.count(world.letters)
    weights: dict[State, float] = {first: 1.0}
    for step, count in enumerate(counts):
        reached: dict[State, float] = defaultdict(float)
        end = open_to[step] if open_to else world.length
        for state, weight in weights.items():
            for after, probability in _moves(policy, world, state, end, count, rule, rule_temperature, cut, seen):
                reached[after] += weight * probability
        weights = reached
    law = torch.zeros(len(world.sequences), dtype=torch.double)
    for state, weight in weights.items():
        law[world.index(torch.tensor([state]))] = weight
    return law


def _moves(
    policy: Denoiser,
    world: World,
    state: State,
    end: int,
    count: int,
    rule: str,
    rule_temperature: float,
    cut: Cut,
    seen: Cut,
) -> Iterator[tuple[State, float]]:
    law = probabilities(policy, torch.tensor([state]))[0].tolist()
    masked = [site for site in range(end) if state[site] == world.letters]
    for tokens in product(range(world.letters), repeat=len(masked)):
        drawn = prod(cut(law[site])[token] for site, token in zip(masked, tokens, strict=True))
        confidence = [_confidence(rule, seen(law[site]), token) for site, token in zip(masked, tokens, strict=True)]
        for places, chosen in _choices(confidence, count, rule_temperature):
            after = list(state)
            for place in places:
                after[masked[place]] = tokens[place]
            yield tuple(after), drawn * chosen


def tempered(temperature: float, top_p: float) -> Cut:
    """Powers of the probabilities, then the likeliest tokens that hold top_p together."""

    def change(law: list[float]) -> list[float]:
        powers = [p ** (1 / temperature) for p in law]
        ordered = sorted(range(len(law)), key=lambda token: -powers[token])
        kept, held = [0.0] * len(law), 0.0
        for token in ordered:
            if held < top_p * sum(powers):
                kept[token] = powers[token]
            held += powers[token]
        return [p / sum(kept) for p in kept]

    return change


def _confidence(rule: str, law: list[float], token: int) -> float:
    first, second = sorted(law, reverse=True)[:2]
    return {
        "entropy": sum(p * log(p) for p in law if p > 0),
        "margin": first - second,
        "max_prob": first,
        "low_confidence": law[token],
    }[rule]


def _choices(confidence: list[float], count: int, temperature: float) -> Iterator[tuple[tuple[int, ...], float]]:
    places = range(len(confidence))
    if temperature == 0:
        yield tuple(sorted(places, key=lambda place: -confidence[place])[:count]), 1.0
        return
    for chosen in permutations(places, count):
        left, probability = set(places), 1.0
        for place in chosen:
            probability *= exp(confidence[place] / temperature) / sum(exp(confidence[k] / temperature) for k in left)
            left.remove(place)
        yield chosen, probability

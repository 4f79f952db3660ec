"""SEPOConfig: TrainingArguments and the options of fine-tuning, with TRL's GRPO names where the meaning is the same.

Strings live here, at the door; `sepo.training.building` turns them into the objects that do the work.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any, ClassVar

from transformers import TrainingArguments

from sepo.training.building import (
    build_advantage,
    build_critic,
    build_objective,
    build_replay,
    build_sampler,
    require_one_method,
)
from sepo.training.drawing import require_guidance
from sepo.training.kl_control import KLControl
from sepo.training.launch import require_unsharded
from sepo.training.layout import Layout


@dataclass
class SEPOConfig(TrainingArguments):
    """How to fine-tune. Everything of `transformers.TrainingArguments`, and:

    Args:
        num_generations: sequences per prompt, which are compared with each other. Without prompts all sequences of a
            collection are compared.
        num_iterations: times each collection is used (mu in GRPO).
        steps_per_generation: micro-batches per collection and process; None: gradient_accumulation_steps.
        max_completion_length: free sites behind a text prompt.
        algorithm: sepo, or another published method: trajectory_pg, step_merge, trace_rl, just_grpo, diffu_grpo,
            coupled_grpo, uni_grpo, wd1, espo, spg, vrpo, sdpo, wdce, trajectory_balance, elite_replay or
            sepo_released, or drakes where the task's reward has a gradient; the options of SEPO below, from reading to
            delta and from baseline to use_critic, are then its own.
        algorithm_kwargs: options of that method, as {"epsilon": 0.1}.
        sampler: first_hitting, left_to_right, confidence, ancestral, tau_leaping, predictor_corrector, remdm, gibbs or
            blocks; None: what the algorithm asks for, else first_hitting for masks, ancestral for other processes and
            beneath a guidance that needs a kernel.
        sampler_kwargs: options of that sampler, as {"corrector_steps": 2}.
        rollout_guidance: best_of_n, svdd or smc: rollouts are led by the training reward, tds or classifier by its
            gradient, classifier_free by a second model, as samples are by `sepo sample --guidance`. For algorithms that
            read no density of paths: elite_replay, vrpo and sdpo. None: rollouts are the policy's own.
        rollout_guidance_kwargs: options of that guidance, as {"candidates": 4}.
        approximate_rollouts: train on rollouts of the confidence sampler with a cache, whose laws are near the model's.
            Log-probabilities are the policy's own, read again without the cache; the gradient is of other draws.
        sampling_steps: network evaluations per rollout at most; None: one site per step (first_hitting), 128 (others).
        reading: where log-probabilities are read: next_site, all_sites, merged, fresh_masks, left_to_right,
            masked_conditionals, fresh_noise, raw_logits, clean_score or transitions; None: next_site for paths that
            fill each mask once, else transitions.
        states: states of each path read per update; None: all.
        neighbours: how SEPO weighs the neighbours of a score: local_softmax, uniform or snis.
        snis_draws: candidates per site of snis.
        weight: how the ratio to the old policy enters: score (SEPO), ppo or unclipped.
        importance_sampling_level: token: a ratio for each site, as published; step: one for all sites that a step
            decides together (the same where a step fills one site, as by default).
        epsilon: clip range below 1, and above if epsilon_high is None.
        epsilon_high: clip range above 1.
        delta: upper cap of the ratio; None: none.
        beta: reward per nat of path KL to the reference, in the return (TRL's beta is the weight of a per-token k3
            term).
        target_kl: nats of path KL at which an adaptive beta, starting from beta, holds the policy; None: beta stays.
        kl_gain: how fast beta adapts, per collection.
        path_kl_coef: weight of the closed-form path KL as a loss term, reward per nat.
        entropy_coef: weight of the path entropy, reward per nat.
        baseline: subtracted from returns: mean, leave_one_out or none.
        state_baseline: also subtract what the state has already decided of the return, by regression on the tokens
            that are there (small alphabets: at most 1,024 sites times token ids).
        scale_rewards: divide by the standard deviation of the group, the batch, or none.
        use_critic: values of states, learned by a head on the network, in place of the comparison within groups (PPO).
        gae_lambda: of generalised advantages; 1: returns less values, at no evaluation; less: values of all states of
            each path are read when it is collected.
        vf_coef: weight of the value loss.
        cliprange_value: how far a value may move from the old one, in reward, before its gradient stops; None: any
            distance.
        whiten_advantages: mean 0 and standard deviation 1 over a collection; reads the values of all states, too.
        replay_kwargs: elites, the best distinct sequences so far, are learned again beside the method's own loss and
            searched around: options of `sepo.training.Replay`, as {"size": 64, "search": 32}; None: they are not kept.
            Without prompts only.
        reward_weights: one per reward function; None: all 1.
        reward_timeout: seconds a call of a reward may take; None: no limit.
        reward_retries: calls repeated after a failure or a timeout.
        non_finite_rewards: raise, or none: treat NaN and infinities as not applicable.
        sync_ref_model: let the reference follow the policy; else it stays what the policy was at first.
        ref_model_mixup_alpha: share of the policy in each move of the reference; 1: a copy.
        ref_model_sync_steps: optimizer steps between two moves; 1: an exponential moving average.
        disable_dropout: rollout and loss then see one policy.
        shuffle_dataset: a new order of the prompts in every epoch.
        num_generations_eval: sequences per prompt in evaluation; None: num_generations.
        log_completions: print a table of completions at every log line.
        save_completions: write the collection of every log line to parquet; None: if pyarrow is installed.
        num_completions_to_print: rows of the printed table; None: all.
        model_init_kwargs: how a model that is named is loaded: options of `sepo.load`, as {"dtype": "bfloat16"}.
    """

    _VALID_DICT_FIELDS: ClassVar[list[str]] = [
        *TrainingArguments._VALID_DICT_FIELDS,
        "model_init_kwargs",
        "algorithm_kwargs",
        "sampler_kwargs",
        "rollout_guidance_kwargs",
        "replay_kwargs",
    ]

    learning_rate: float = 1e-5
    logging_steps: float = 10
    num_generations: int = 8
    num_iterations: int = 1
    steps_per_generation: int | None = None
    max_completion_length: int = 256
    algorithm: str = "sepo"
    algorithm_kwargs: dict[str, Any] | str | None = None
    sampler: str | None = None
    sampler_kwargs: dict[str, Any] | str | None = None
    rollout_guidance: str | None = None
    rollout_guidance_kwargs: dict[str, Any] | str | None = None
    approximate_rollouts: bool = False
    sampling_steps: int | None = None
    reading: str | None = None
    states: int | None = 16
    weight: str = "score"
    importance_sampling_level: str = "token"
    epsilon: float = 0.2
    epsilon_high: float | None = None
    delta: float | None = None
    neighbours: str = "local_softmax"
    snis_draws: int = 2
    beta: float = 0.0
    target_kl: float | None = None
    kl_gain: float = 0.1
    path_kl_coef: float = 0.0
    entropy_coef: float = 0.0
    baseline: str = "mean"
    state_baseline: bool = True
    scale_rewards: str = "group"
    use_critic: bool = False
    gae_lambda: float = 1.0
    vf_coef: float = 0.5
    cliprange_value: float | None = None
    whiten_advantages: bool = False
    replay_kwargs: dict[str, Any] | str | None = None
    reward_weights: list[float] | None = None
    reward_timeout: float | None = None
    reward_retries: int = 0
    non_finite_rewards: str = "raise"
    sync_ref_model: bool = False
    ref_model_mixup_alpha: float = 0.6
    ref_model_sync_steps: int = 512
    disable_dropout: bool = True
    shuffle_dataset: bool = True
    num_generations_eval: int | None = None
    log_completions: bool = False
    save_completions: bool | None = None
    num_completions_to_print: int | None = 5
    remove_unused_columns: bool | None = False
    logging_nan_inf_filter: bool = False
    model_init_kwargs: dict[str, Any] | str | None = field(default=None)

    def __post_init__(self) -> None:
        require_unsharded(self)
        super().__post_init__()
        if self.steps_per_generation is None:
            self.steps_per_generation = self.gradient_accumulation_steps
        self._check()
        require_one_method(self)
        require_guidance(self)
        build_sampler(self)
        build_objective(self)
        build_advantage(self)
        build_critic(self)
        build_replay(self)

    def _check(self) -> None:
        if self.beta < 0 or self.path_kl_coef < 0:
            raise ValueError(
                f"beta={self.beta}, path_kl_coef={self.path_kl_coef}: must not be negative; 0 switches them off."
            )
        KLControl(self.beta, self.target_kl, self.kl_gain)
        if self.max_completion_length < 1:
            raise ValueError(f"max_completion_length={self.max_completion_length}: must be at least 1 token.")
        if self.num_generations_eval is not None and self.num_generations_eval < 1:
            raise ValueError(
                f"num_generations_eval={self.num_generations_eval}: must be at least 1, or None for num_generations."
            )
        if self.ignore_data_skip:
            raise ValueError(
                "ignore_data_skip=True: a resumed run goes on at its own place in the stream and draws nothing twice; "
                "leave it False."
            )
        if self.non_finite_rewards not in ("raise", "none"):
            raise ValueError(f"non_finite_rewards={self.non_finite_rewards!r}: choose 'raise' or 'none'.")
        has_arrow = find_spec("pyarrow") is not None
        if self.save_completions and not has_arrow:
            raise ValueError(
                "save_completions=True writes parquet, which needs pyarrow: pip install pyarrow (extra `demo`)."
            )
        if self.save_completions is None:
            self.save_completions = has_arrow


def layout_of(args: SEPOConfig, world: int, rank: int) -> Layout:
    """The sizes of a run on `world` processes, for one of them."""
    return Layout(
        micro=args.per_device_train_batch_size,
        group=args.num_generations,
        accumulation=args.gradient_accumulation_steps,
        per_collection=args.steps_per_generation or args.gradient_accumulation_steps,
        iterations=args.num_iterations,
        world=world,
        rank=rank,
    )

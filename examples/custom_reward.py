"""A reward of your own: any function with TRL's signature. Here: digits that look the same in a mirror.

    sepo pretrain digits
    sepo finetune digits --reward examples/custom_reward.py:mirror examples/custom_reward.py:ink --reward_weights 1 0.5

or from Python, as in `main`.
"""

from __future__ import annotations

import sys

import numpy as np

from sepo import SEPOConfig, SEPOTrainer


def mirror(completions, **kwargs) -> list[float]:
    """1 for a picture that equals its mirror image. Without a tokenizer, completions are arrays of tokens."""
    pictures = np.stack(completions).reshape(-1, 8, 8) / 7
    return (1 - np.abs(pictures - pictures[:, :, ::-1]).mean((1, 2))).tolist()


def ink(completions, log_metric, **kwargs) -> list[float | None]:
    """Close to the ink of a real digit. It does not apply to blank pictures: None leaves them to the other rewards."""
    darkness = np.stack(completions).mean(1) / 7
    log_metric("ink", float(darkness.mean()))
    return [None if dark == 0 else float(-abs(dark - 0.29)) for dark in darkness]


def main(model: str, output_dir: str = "runs/mirror", steps: int = 60, batch: int = 64) -> float:
    """Fine-tunes the model in a folder; the mean reward at the end."""
    trainer = SEPOTrainer(
        model=model,
        reward_funcs=[mirror, ink],
        args=SEPOConfig(
            output_dir=output_dir,
            max_steps=steps,
            per_device_train_batch_size=batch,
            learning_rate=1e-3,
            sampling_steps=16,
            beta=0.01,
            reward_weights=[1.0, 0.5],
        ),
    )
    trainer.train()
    trainer.save_model()
    return trainer.state.log_history[-2]["reward"]


if __name__ == "__main__":
    main(*sys.argv[1:3])

"""The engine: experience is collected, streamed to a transformers.Trainer, and turned into updates."""

from sepo.training.collector import Collected, Collector
from sepo.training.config import SEPOConfig
from sepo.training.elites import Elites, Replay
from sepo.training.experience import Experience
from sepo.training.finite import NonFiniteError
from sepo.training.layout import Layout
from sepo.training.pretraining import PretrainConfig, PretrainTrainer
from sepo.training.reference import AdaptersOff, Apart, Frozen, Reference, Synced
from sepo.training.stream import ExperienceStream
from sepo.training.trainer import SEPOTrainer

__all__ = [
    "AdaptersOff",
    "Apart",
    "Collected",
    "Collector",
    "Elites",
    "Experience",
    "ExperienceStream",
    "Frozen",
    "Layout",
    "NonFiniteError",
    "PretrainConfig",
    "PretrainTrainer",
    "Reference",
    "Replay",
    "SEPOConfig",
    "SEPOTrainer",
    "Synced",
]

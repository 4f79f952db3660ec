"""sepo: fine-tune discrete diffusion models on any reward."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sepo.models import load
    from sepo.training.config import SEPOConfig
    from sepo.training.pretraining import PretrainConfig, PretrainTrainer
    from sepo.training.trainer import SEPOTrainer

__version__ = "0.1.0"
__all__ = ["PretrainConfig", "PretrainTrainer", "SEPOConfig", "SEPOTrainer", "__version__", "load"]

_HOMES = {
    "PretrainConfig": "sepo.training.pretraining",
    "PretrainTrainer": "sepo.training.pretraining",
    "SEPOConfig": "sepo.training.config",
    "SEPOTrainer": "sepo.training.trainer",
    "load": "sepo.models",
}


def __getattr__(name: str) -> Any:
    """The public names, each imported when it is first asked for: `import sepo` alone does not wait for torch."""
    if name not in _HOMES:
        raise AttributeError(f"module 'sepo' has no attribute {name!r}; it has {', '.join(__all__)}.")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)

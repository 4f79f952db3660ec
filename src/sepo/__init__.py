"""sepo: fine-tune discrete diffusion models on any reward."""

__version__ = "0.1.0"

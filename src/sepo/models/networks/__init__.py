"""Networks that denoise: transformers models that map noisy tokens to logits over clean ones.

Each is a `PreTrainedModel` with forward(xt [b l], sigma [b] | None, attend [b l] | None, sites [b k] | None) -> logits
[b l vocab], or [b k vocab] at `sites` alone: hidden states are gathered before the vocabulary head.
"""

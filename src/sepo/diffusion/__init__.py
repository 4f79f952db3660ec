"""The mathematics: forward processes, canvases, rollouts, the denoiser lens and its log-probabilities."""

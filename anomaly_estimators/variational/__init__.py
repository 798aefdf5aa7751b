"""Detectors that fit a latent variable model by variational inference."""

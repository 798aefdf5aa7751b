"""The table and the figures of the VAE with normalizing flows."""

"""Training a latent diffusion model, from nothing or from a base."""

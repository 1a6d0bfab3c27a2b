"""Adapting a Stable-Diffusion model to radiographs and reports."""

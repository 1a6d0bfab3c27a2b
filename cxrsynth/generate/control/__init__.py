"""Control of anatomy and pathology while an image is generated, without fine-tuning the diffusion model (XReal)."""

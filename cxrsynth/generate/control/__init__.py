"""Control of anatomy and pathology while a film is drawn, without fine-tuning the diffusion model (XReal)."""

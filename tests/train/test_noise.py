"""Noise schedules of any base, and how much each step counts."""

import numpy as np
import pytest
import torch
from diffusers.training_utils import compute_snr

from cxrsynth.nets.config import NoiseConfig
from cxrsynth.nets.noise import draw_noise, draw_timesteps, schedule_of, target, weigh

SD = {"_class_name": "PNDMScheduler", "beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012,
      "num_train_timesteps": 1000, "skip_prk_steps": True, "steps_offset": 1, "set_alpha_to_one": False}  # fmt: skip
TIMES = torch.tensor([0, 300, 999])


def test_min_snr_weighs_noise_as_in_the_paper() -> None:
    schedule = schedule_of(SD, NoiseConfig())
    snr = compute_snr(schedule, TIMES)
    assert torch.allclose(weigh(schedule, TIMES, 5.0), snr.clamp(max=5.0) / snr)
    assert weigh(schedule, TIMES, None).tolist() == [1, 1, 1]


def test_zero_snr_leaves_no_signal_at_the_last_step_and_a_weight_above_zero() -> None:
    schedule = schedule_of(SD, NoiseConfig(prediction="v_prediction", zero_snr=True))
    assert schedule.alphas_cumprod[-1] == 0
    assert schedule.config.timestep_spacing == "trailing"
    assert weigh(schedule, TIMES, 5.0)[2] == pytest.approx(1.0)


def test_the_target_is_what_the_base_predicts() -> None:
    latents, noise = torch.randn(3, 4, 2, 2), torch.randn(3, 4, 2, 2)
    assert torch.equal(target(schedule_of(SD, NoiseConfig()), latents, noise, TIMES), noise)
    velocity = schedule_of(SD, NoiseConfig(prediction="v_prediction"))
    share = velocity.alphas_cumprod[TIMES][:, None, None, None]
    expected = share.sqrt() * noise - (1 - share).sqrt() * latents
    assert torch.allclose(target(velocity, latents, noise, TIMES), expected, atol=1e-5)


def test_offset_noise_shares_a_number_within_a_channel() -> None:
    plain = draw_noise(np.random.default_rng(0), (400, 4, 16, 16), 0.0)
    shifted = draw_noise(np.random.default_rng(0), (400, 4, 16, 16), 0.5)
    assert plain.mean(dim=(2, 3)).std() == pytest.approx(1 / 16, rel=0.1)
    assert shifted.mean(dim=(2, 3)).std() == pytest.approx((1 / 256 + 0.25) ** 0.5, rel=0.1)


def test_a_batch_has_a_timestep_from_each_part_of_the_range() -> None:
    found = draw_timesteps(np.random.default_rng(0), 10, 1000)
    assert sorted((found // 100).tolist()) == list(range(10))

"""The bridge: a true DiffusionPipeline that draws what ours draws, and diffusers' solvers on our velocity field."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from tests.doubles import SIZE, toy_image_tokenizer, toy_pipeline
from tokenloom.models.diffusion import euler
from tokenloom.models.schedules import falling_times
from tokenloom.pipelines.draw_codes import by
from tokenloom.pipelines.sampler_settings import TIME_SHIFT
from tokenloom.pipelines.text_to_image import TextToImagePipeline, seeded

diffusers = pytest.importorskip("diffusers")

from tokenloom.pipelines.diffusers_bridge import (  # noqa: E402
    ImageTokenizerPart,
    TextToImageDiffusionPipeline,
    set_flow_sigmas,
)

# DPMSolverMultistepScheduler asks numpy to read a tensor in a way that numpy will stop allowing.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

PROMPTS = ["red over green", "blue over white"]
FLOW = {"use_flow_sigmas": True, "prediction_type": "flow_prediction"}
SCHEDULERS = {
    "Euler": diffusers.FlowMatchEulerDiscreteScheduler(shift=TIME_SHIFT),
    "Heun": diffusers.FlowMatchHeunDiscreteScheduler(),
    "DPM++": diffusers.DPMSolverMultistepScheduler(**FLOW),
    "UniPC": diffusers.UniPCMultistepScheduler(**FLOW),
}
MU, SIGMA = 0.7, 0.4  # of normal data, whose velocity and end are known: see test_diffusion.py


@pytest.fixture
def pipe() -> TextToImageDiffusionPipeline:
    return quiet(TextToImageDiffusionPipeline.wrap(toy_pipeline()))


def quiet(pipe):
    pipe.set_progress_bar_config(disable=True)
    return pipe


def ours(decoder: str = "diffusion", **settings) -> Tensor:
    return toy_pipeline()(PROMPTS, decoder=decoder, generator=seeded(0, 2), output_type="pt", **settings).images


def theirs(pipe, **settings) -> Tensor:
    """Pictures in [-1, 1]."""
    drawn = pipe(PROMPTS, generator=seeded(0, 2), output_type="pt", **settings)
    return drawn.images * 2 - 1


# --------------------------------------------------------------------------------------------------- what it draws


def test_it_is_a_true_pipeline_of_diffusers(pipe):
    assert isinstance(pipe, diffusers.DiffusionPipeline)
    assert set(pipe.components) == {"transformer", "image_tokenizer", "text_tokenizer", "scheduler"}
    assert pipe.to("cpu") is pipe and pipe.device == torch.device("cpu") and pipe.dtype == torch.float32


def test_the_euler_scheduler_takes_the_steps_of_our_euler(pipe):
    for steps in (1, 7):
        settings = {"num_inference_steps": steps, "guidance_scale": 2.0}
        torch.testing.assert_close(theirs(pipe, **settings), ours(solver=by(euler), **settings))
    torch.testing.assert_close(theirs(pipe), ours(solver=by(euler)))  # and has the same defaults


@pytest.mark.parametrize("decoder", ["ar", "masked"])
def test_the_other_decoders_draw_as_ever(pipe, decoder):
    torch.testing.assert_close(theirs(pipe, decoder=decoder), ours(decoder))


def test_pictures_come_in_the_forms_of_diffusers(pipe):
    settings = {"generator": None, "num_inference_steps": 1, "num_images_per_prompt": 2}
    pil, array, tensor = (
        pipe(PROMPTS, **(settings | {"generator": torch.Generator().manual_seed(1)}), output_type=form).images
        for form in ("pil", "np", "pt")
    )
    assert len(pil) == 4 and pil[0].size == (SIZE, SIZE)
    assert array.shape == (4, SIZE, SIZE, 3) and tensor.shape == (4, 3, SIZE, SIZE)
    np.testing.assert_array_equal(np.asarray(pil[2]), (array[2] * 255).round().astype(np.uint8))
    assert 0 <= tensor.min() and tensor.max() <= 1
    (only,) = pipe(PROMPTS[0], num_inference_steps=1, return_dict=False)
    assert len(only) == 1


def test_inpainting_takes_pictures_and_keeps_what_is_black(pipe):
    pixels = torch.randint(256, (SIZE, SIZE, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)).numpy()
    mask = np.zeros((SIZE, SIZE), np.uint8)
    mask[:, SIZE // 2 :] = 255
    (drawn,) = pipe(
        PROMPTS[0], Image.fromarray(pixels), Image.fromarray(mask), generator=seeded(0, 1), num_inference_steps=3
    ).images
    np.testing.assert_array_equal(np.asarray(drawn)[:, : SIZE // 2], pixels[:, : SIZE // 2])
    assert (np.asarray(drawn)[:, SIZE // 2 :] != pixels[:, SIZE // 2 :]).any()


def test_the_callback_sees_every_step_and_may_change_the_latents(pipe):
    times: list[float] = []
    count, dims = pipe.transformer.part.config.num_positions, len(pipe.transformer.part.config.image_levels)

    def step_end(pipeline, step, timestep, tensors):
        assert pipeline is pipe
        assert step == len(times) and tensors["latents"].shape == (2, count, dims)
        times.append(float(timestep) / 1000)
        return {"latents": torch.zeros_like(tensors["latents"])}

    pictures = theirs(pipe, num_inference_steps=4, callback_on_step_end=step_end)
    assert times == pytest.approx(falling_times(4, TIME_SHIFT)[:-1].tolist(), abs=1e-6)
    torch.testing.assert_close(pictures[0], pictures[1])  # both are what zeros mean


# ------------------------------------------------------------------------------------------------------ schedulers


def normal_velocity(x: Tensor, time: Tensor) -> Tensor:
    t = time.view(-1, 1, 1)
    variance = (1 - t) ** 2 * SIGMA**2 + t**2
    return (t - (1 - t) * SIGMA**2) / variance * (x - (1 - t) * MU) - MU


def end_error(pipe, name: str, steps: int) -> float:
    pipe.scheduler = SCHEDULERS[name]
    noise = torch.randn(4, 3, 2, generator=torch.Generator().manual_seed(0))
    x = pipe._solve(None, normal_velocity, noise, steps, lambda time, x: x)
    return float((x - (MU + SIGMA * noise)).abs().max())


@pytest.mark.parametrize("name", SCHEDULERS)
def test_every_solver_lands_on_the_data_when_the_path_is_straight(pipe, name):
    pipe.scheduler = SCHEDULERS[name]
    noise, data = torch.randn(2, 2, 4, 3, generator=torch.Generator().manual_seed(0)).unbind(0)
    times = []
    x = pipe._solve(
        None, lambda x, t: (x - data) / t.view(-1, 1, 1), noise, 8, lambda time, x: [times.append(time), x][1]
    )
    torch.testing.assert_close(x, data, atol=1e-4, rtol=1e-4)
    assert times == sorted(times, reverse=True) and times[-1] == 0


def test_our_euler_and_that_of_diffusers_agree_on_a_field(pipe):
    noise = torch.randn(4, 3, 2, generator=torch.Generator().manual_seed(0))
    mine = by(euler)(normal_velocity, noise, 9, lambda time, x: x)
    pipe.scheduler = SCHEDULERS["Euler"]
    torch.testing.assert_close(pipe._solve(None, normal_velocity, noise, 9, lambda time, x: x), mine)


@pytest.mark.parametrize("name", ["DPM++", "UniPC"])
def test_multistep_solvers_come_closer_than_euler_in_as_many_evaluations(pipe, name):
    assert end_error(pipe, name, 12) < 0.5 * end_error(pipe, "Euler", 12)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_every_solver_draws(pipe, name):
    pipe.scheduler = SCHEDULERS[name]
    pictures = theirs(pipe, num_inference_steps=4)
    assert pictures.shape == (2, 3, SIZE, SIZE) and torch.isfinite(pictures).all()
    torch.testing.assert_close(pictures, theirs(pipe, num_inference_steps=4))  # nothing is left over from the first


def test_steps_are_even_where_a_scheduler_lets_us_choose():
    for scheduler in (diffusers.FlowMatchEulerDiscreteScheduler(), SCHEDULERS["UniPC"]):
        sigmas = set_flow_sigmas(scheduler, 5, torch.device("cpu"))
        torch.testing.assert_close(torch.tensor(sigmas), falling_times(5).float(), atol=1e-5, rtol=0)


def test_a_scheduler_of_another_process_is_refused(pipe):
    for scheduler in (diffusers.DDIMScheduler(), diffusers.UniPCMultistepScheduler()):
        pipe.scheduler = scheduler
        with pytest.raises(ValueError, match="must follow a flow"):
            pipe(PROMPTS[0], num_inference_steps=2)


# ----------------------------------------------------------------------------------------------------------- folders


def test_a_saved_pipeline_is_opened_by_its_class_by_ours_and_keeps_its_scheduler(pipe, tmp_path):
    pipe.scheduler = SCHEDULERS["UniPC"]
    pipe.save_pretrained(tmp_path)
    again = quiet(TextToImageDiffusionPipeline.from_pretrained(tmp_path))
    assert isinstance(again.scheduler, diffusers.UniPCMultistepScheduler) and again.scheduler.config.use_flow_sigmas
    torch.testing.assert_close(theirs(again, num_inference_steps=3), theirs(pipe, num_inference_steps=3))
    mine = TextToImagePipeline.from_pretrained(tmp_path)
    assert mine.lexicon == toy_pipeline().lexicon == again.text_to_image.lexicon
    drawn = mine(PROMPTS, decoder="masked", generator=seeded(0, 2), output_type="pt").images
    torch.testing.assert_close(drawn, ours("masked"))


def test_a_folder_of_ours_opens_as_it_is(tmp_path):
    toy_pipeline().save_pretrained(tmp_path)
    pipe = quiet(TextToImageDiffusionPipeline.from_pretrained(tmp_path, scheduler=SCHEDULERS["DPM++"]))
    assert pipe.scheduler is SCHEDULERS["DPM++"]
    pipe.scheduler = SCHEDULERS["Euler"]
    torch.testing.assert_close(theirs(pipe), ours(solver=by(euler)))


def test_diffusers_opens_the_folder_alone(pipe, tmp_path):
    """In a process that never heard of the bridge; what diffusers copies of the folder's code goes into `tmp_path`."""
    pipe.save_pretrained(tmp_path / "model")
    code = (
        "import sys, diffusers\n"
        "pipe = diffusers.DiffusionPipeline.from_pretrained(\n"
        "    sys.argv[1], custom_pipeline='pipeline', trust_remote_code=True)\n"
        "print(type(pipe).__module__, pipe('red over green', num_inference_steps=2).images[0].size)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "model")],
        capture_output=True,
        text=True,
        env={**os.environ, "HF_MODULES_CACHE": str(tmp_path / "modules"), "HF_HUB_OFFLINE": "1"},
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.split("\n")[0] == f"tokenloom.pipelines.diffusers_bridge ({SIZE}, {SIZE})"


def test_a_part_that_the_model_was_not_trained_with_is_refused(pipe, tmp_path):
    pipe.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="image_tokenizer is not the one"):
        TextToImageDiffusionPipeline.from_pretrained(
            tmp_path, image_tokenizer=ImageTokenizerPart(toy_image_tokenizer(seed=5))
        )


def test_another_type_than_float32_is_refused_and_not_ignored(pipe, tmp_path):
    pipe.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="runs in float32"):
        TextToImageDiffusionPipeline.from_pretrained(tmp_path, dtype=torch.float16)


def test_no_weights_are_pickled(pipe, tmp_path):
    pipe.save_pretrained(tmp_path)
    kinds = {path.suffix for path in Path(tmp_path).rglob("*") if path.is_file()}
    assert kinds == {".json", ".safetensors", ".py", ".md"}

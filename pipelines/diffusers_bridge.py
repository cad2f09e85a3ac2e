"""The pipeline as a true `diffusers.DiffusionPipeline`, for those who work there: its habits, files and schedulers.

    from tokenloom.pipelines.diffusers_bridge import TextToImageDiffusionPipeline

    pipe = TextToImageDiffusionPipeline.from_pretrained("tokenloom-mini")
    pipe.scheduler = UniPCMultistepScheduler(use_flow_sigmas=True, prediction_type="flow_prediction")
    image = pipe("a red star", num_inference_steps=8).images[0]

A folder that it saves is opened by `tokenloom.TextToImagePipeline` as well, and by diffusers alone, which runs the one
line of code in it: `DiffusionPipeline.from_pretrained(folder, custom_pipeline="pipeline", trust_remote_code=True)`.

The path is diffusers' flow matching as it is: x_t = (1 - sigma) data + sigma noise, so time is sigma, and the velocity
is what schedulers call a flow prediction. Importing this file imports diffusers, which takes seconds.
"""

import inspect
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from diffusers.image_processor import VaeImageProcessor
from diffusers.models.modeling_utils import ModelMixin as ModelMixin  # diffusers looks for it beside its subclasses
from diffusers.pipelines.pipeline_utils import DiffusionPipeline, ImagePipelineOutput
from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler
from diffusers.schedulers.scheduling_flow_match_heun_discrete import FlowMatchHeunDiscreteScheduler
from torch import Tensor

from ..data.files import write_atomically
from ..models.diffusion import Velocity
from ..models.schedules import falling_times
from ..models.transformer import SharedTransformer
from ..tokenizers.image import ImageTokenizer
from ..tokenizers.text import TextTokenizer
from .draw_codes import AfterStep
from .sampler_settings import TIME_SHIFT, settings_of
from .text_to_image import BATCH, Generators, TextToImagePipeline, find_model

CODE = "pipeline.py"
LINE = f"from {__name__} import TextToImageDiffusionPipeline  # noqa: F401\n"
Scheduler = Any  # those of diffusers have steps and sigmas in common, but no class that says so
StepEnd = Callable[[DiffusionPipeline, int, Tensor, dict[str, Tensor]], dict[str, Tensor]]


class Part(ModelMixin):
    """A part of ours as a component of diffusers: it saves and loads our files, and moves between devices."""

    kind: ClassVar[Any]

    def __init__(self, part: Any):
        super().__init__()
        self.part = part

    def save_pretrained(self, save_directory: str | os.PathLike, *unused: Any, **options: Any) -> None:
        self.part.save_pretrained(save_directory)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike | None, **options: Any) -> Self:
        """Load what the part itself saved. Options about memory and shards mean nothing for files this small.

        Raises:
            ValueError: another type than float32 is wanted.
        """
        dtype = options.get("torch_dtype") or options.get("dtype") or torch.float32
        if dtype != torch.float32:
            raise ValueError(f"the model runs in float32, got torch_dtype={dtype}; leave it out")
        return cls(cls.kind.from_pretrained(pretrained_model_name_or_path))


class TransformerPart(Part):
    kind = SharedTransformer


class ImageTokenizerPart(Part):
    kind = ImageTokenizer


class TextTokenizerPart(Part):
    kind = TextTokenizer

    def __init__(self, part: TextTokenizer):
        super().__init__(part)
        self.register_buffer("empty", torch.empty(0), persistent=False)  # diffusers asks each part for type and device


class TextToImageDiffusionPipeline(DiffusionPipeline):
    """`TextToImagePipeline` with diffusers around it: `scheduler` drives `diffusion`, our loops the other two."""

    transformer: TransformerPart
    image_tokenizer: ImageTokenizerPart
    text_tokenizer: TextTokenizerPart
    scheduler: Scheduler

    def __init__(
        self,
        transformer: TransformerPart,
        image_tokenizer: ImageTokenizerPart,
        text_tokenizer: TextTokenizerPart,
        scheduler: Scheduler,
        lexicon: list[str] | None = None,
        fingerprints: dict[str, str] | None = None,
        writes: bool = False,
    ):
        super().__init__()
        self.register_modules(
            transformer=transformer,
            image_tokenizer=image_tokenizer,
            text_tokenizer=text_tokenizer,
            scheduler=scheduler,
        )
        self.register_to_config(lexicon=list(lexicon or ()), fingerprints=dict(fingerprints or {}), writes=writes)
        for name, fingerprint in (fingerprints or {}).items():
            if getattr(self, name).part.fingerprint != fingerprint:
                raise ValueError(f"this {name} is not the one the model was trained with; restore it")
        stride = image_tokenizer.part.config.stride
        self.image_processor = VaeImageProcessor(vae_scale_factor=stride)
        self.mask_processor = VaeImageProcessor(
            vae_scale_factor=stride, do_normalize=False, do_binarize=True, do_convert_grayscale=True
        )

    @classmethod
    def wrap(cls, pipeline: TextToImagePipeline, scheduler: Scheduler = None) -> Self:
        """`pipeline` as diffusers knows pipelines; the default scheduler takes the same steps as ours."""
        return cls(
            TransformerPart(pipeline.transformer),
            ImageTokenizerPart(pipeline.image_tokenizer),
            TextTokenizerPart(pipeline.text_tokenizer),
            scheduler or FlowMatchEulerDiscreteScheduler(shift=TIME_SHIFT),
            sorted(pipeline.lexicon),
            pipeline.fingerprints,
            pipeline.writes,
        )

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike, **options: Any) -> Self:
        """Load a shipped name, a folder of ours, or a folder or hub repository that `save_pretrained` filled."""
        try:
            folder = find_model(os.fspath(pretrained_model_name_or_path))
        except ValueError:
            return super().from_pretrained(pretrained_model_name_or_path, **options)
        if (folder / cls.config_name).is_file():
            return super().from_pretrained(str(folder), **options)
        return cls.wrap(TextToImagePipeline.from_pretrained(folder), **options)

    def save_pretrained(self, save_directory: str | os.PathLike, *arguments: Any, **options: Any) -> None:
        super().save_pretrained(save_directory, *arguments, **options)
        self.text_to_image.save_index(Path(save_directory))
        write_atomically(Path(save_directory) / CODE, LINE.encode())

    @property
    def text_to_image(self) -> TextToImagePipeline:
        """Our pipeline on the same parts."""
        parts = self.transformer.part, self.image_tokenizer.part, self.text_tokenizer.part
        return TextToImagePipeline(*parts, lexicon=self.config["lexicon"], writes=self.config["writes"])

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | list[str],
        image: Any = None,
        mask_image: Any = None,
        *,
        decoder: str = "diffusion",
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        num_images_per_prompt: int = 1,
        generator: Generators = None,
        output_type: str = "pil",
        return_dict: bool = True,
        callback_on_step_end: StepEnd | None = None,
        **settings: Any,
    ) -> ImagePipelineOutput | tuple[Any]:
        """Draw pictures; what is not told here is as in `TextToImagePipeline.__call__`.

        Args:
            image, mask_image: to inpaint, in any form that diffusers takes; white is drawn anew.
            output_type: "pil", or "np" and "pt" in [0, 1].
            callback_on_step_end: after each step of `diffusion`, as in diffusers; sees and may change "latents".
        """
        ours = self.text_to_image
        settings |= {"num_inference_steps": num_inference_steps, "guidance_scale": guidance_scale}
        steps = settings_of(decoder, **settings).num_inference_steps
        height, width = ours.image_size
        if image is not None and mask_image is not None:
            image = self.image_processor.preprocess(image, height=height, width=width)
            mask_image = self.mask_processor.preprocess(mask_image, height=height, width=width)
        count = num_images_per_prompt * (1 if isinstance(prompt, str) else len(prompt))
        rounds = ours.transformer.config.num_positions if decoder == "ar" else steps
        with self.progress_bar(total=rounds * -(-count // BATCH)) as bar:
            drawn = ours(
                prompt,
                decoder=decoder,
                generator=generator,
                num_images_per_prompt=num_images_per_prompt,
                image=image,
                mask_image=mask_image,
                output_type="pt",
                callback=lambda done, total: bar.update(),
                solver=partial(self._solve, callback_on_step_end) if decoder == "diffusion" else None,
                **settings,
            )
        images = self.image_processor.postprocess(drawn.images, output_type=output_type)
        return ImagePipelineOutput(images=images) if return_dict else (images,)

    def _solve(
        self, step_end: StepEnd | None, velocity: Velocity, noise: Tensor, steps: int, after: AfterStep
    ) -> Tensor:
        """Let the scheduler lead from noise to data: a `Solver`."""
        sigmas = set_flow_sigmas(self.scheduler, steps, noise.device)
        x = noise
        for step, (timestep, t, t_next) in enumerate(
            zip(self.scheduler.timesteps, sigmas[:-1], sigmas[1:], strict=True)
        ):
            x = self.scheduler.step(velocity(x, x.new_full((len(x),), t)), timestep, x, return_dict=False)[0]
            x = after(t_next, x)
            if step_end is not None:
                x = step_end(self, step, timestep, {"latents": x}).get("latents", x)
        return x


def set_flow_sigmas(scheduler: Scheduler, steps: int, device: torch.device) -> list[float]:
    """Set a scheduler's steps, evenly spaced where it lets us, and return its sigmas, one more than its timesteps.

    Timesteps are no measure of time: some schedulers round them to integers.

    Raises:
        ValueError: the scheduler follows no flow.
    """
    config = scheduler.config
    told = config.get("use_flow_sigmas") and config.get("prediction_type") == "flow_prediction"
    if not told and not isinstance(scheduler, (FlowMatchEulerDiscreteScheduler, FlowMatchHeunDiscreteScheduler)):
        raise ValueError(
            f"a scheduler must follow a flow, got {type(scheduler).__name__}; take FlowMatchEulerDiscreteScheduler, or "
            'one with use_flow_sigmas=True and prediction_type="flow_prediction"'
        )
    if "sigmas" in inspect.signature(scheduler.set_timesteps).parameters:
        scheduler.set_timesteps(steps, sigmas=falling_times(steps)[:-1].numpy(), device=device)
    else:
        scheduler.set_timesteps(steps, device=device)
    return scheduler.sigmas.tolist()

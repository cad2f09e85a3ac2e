"""How each decoder samples: the settings there are, and those that are taken when nothing is said."""

from dataclasses import dataclass, fields, replace
from numbers import Integral, Real
from typing import Any

MAX_STEPS = 1000
TIME_SHIFT = 1.8  # of the times of `diffusion` (falling_times): most is decided while there is much noise
MAX_BEST_OF = 256


@dataclass(frozen=True, kw_only=True)
class SamplerSettings:
    """How a decoder samples. Settings that a decoder does not know are ignored by it."""

    guidance_scale: float = 3.0  # 1 is no guidance, and half the work
    guidance_from: float = 1.0  # of `diffusion`: steps are guided from this time on,
    guidance_until: float = 0.0  # down to this one; the others take half the work
    num_inference_steps: int = 16  # of `masked` and `diffusion`; `ar` takes one step per code
    temperature: float = 1.0  # of what the model predicts; 0 takes the likeliest code
    top_k: int = 0  # of `ar`; 0 keeps all
    top_p: float = 1.0  # of `ar`
    choice_temperature: float = 2.0  # of `masked`
    best_of: int = 1  # drawings, of which the one is kept that fits the prompt best to the model's own eyes

    def __post_init__(self) -> None:
        for setting in fields(self):
            value, kind = getattr(self, setting.name), Integral if isinstance(setting.default, int) else Real
            if not isinstance(value, kind):
                raise ValueError(f"{setting.name} must be a {'whole ' * (kind is Integral)}number, got {value!r}")
        if not 1 <= self.num_inference_steps <= MAX_STEPS:
            raise ValueError(f"num_inference_steps must be 1 to {MAX_STEPS}, got {self.num_inference_steps}")
        if not 1 <= self.best_of <= MAX_BEST_OF:
            raise ValueError(f"best_of must be 1 to {MAX_BEST_OF} drawings, got {self.best_of}")
        if not 0 <= self.guidance_scale <= 100:
            raise ValueError(f"guidance_scale must be 0 to 100, got {self.guidance_scale}")
        if not 0 <= self.guidance_until <= self.guidance_from <= 1:
            raise ValueError(
                "guidance needs 0 <= guidance_until <= guidance_from <= 1, times from data to noise, "
                f"got {self.guidance_until} and {self.guidance_from}"
            )
        for name in ("temperature", "choice_temperature"):
            value = getattr(self, name)
            if not 0 <= value <= 100:
                raise ValueError(f"{name} must be 0 to 100, got {value}")
        if self.top_k < 0 or not 0 < self.top_p <= 1:
            raise ValueError(f"top_k must be at least 0 and top_p in (0, 1], got {self.top_k} and {self.top_p}")

    def guides(self, time: float) -> bool:
        """Whether the step of `diffusion` that begins at `time` is guided. Times may have been through float32."""
        return self.guidance_scale != 1 and self.guidance_until < round(time, 6) <= self.guidance_from


DEFAULTS = {
    "ar": SamplerSettings(guidance_scale=2.0, temperature=0.7),
    "masked": SamplerSettings(guidance_scale=2.0, num_inference_steps=32, temperature=0.6, choice_temperature=4.0),
    "diffusion": SamplerSettings(guidance_scale=1.5, num_inference_steps=16, temperature=0.7),
}
DECODERS = tuple(DEFAULTS)
USED_BY = {
    "ar": ("guidance_scale", "temperature", "top_k", "top_p", "best_of"),
    "masked": ("guidance_scale", "num_inference_steps", "temperature", "choice_temperature", "best_of"),
    "diffusion": ("guidance_scale", "num_inference_steps", "temperature", "guidance_from", "guidance_until", "best_of"),
}  # decoder -> the settings that change what it draws


def settings_of(decoder: str, **settings: Any) -> SamplerSettings:
    """The decoder's defaults with `settings` in their place; those that are None are left at the default.

    Raises:
        ValueError: there is no such decoder, or a setting is out of range.
    """
    if decoder not in DEFAULTS:
        raise ValueError(f"decoder must be one of {', '.join(DECODERS)}, got {decoder!r}")
    return replace(DEFAULTS[decoder], **{name: value for name, value in settings.items() if value is not None})


def model_evaluations(decoder: str, settings: SamplerSettings, num_codes: int) -> int:
    """Runs of the model for one picture of `num_codes` codes, its prompt left out; a guided step counts two.

    To look at one of several drawings counts one more.
    """
    steps = num_codes if decoder == "ar" else settings.num_inference_steps
    if decoder == "diffusion":
        from ..models.schedules import falling_times  # brings torch, and options are parsed without

        guided = sum(map(settings.guides, falling_times(steps, TIME_SHIFT)[:-1].tolist()))
    else:
        guided = steps
    return of_several(steps if settings.guidance_scale == 1 else steps + guided, settings)


def of_several(evaluations: int, settings: SamplerSettings) -> int:
    """Runs of the model for the best of several drawings, each of which takes `evaluations`."""
    return evaluations if settings.best_of == 1 else settings.best_of * (evaluations + 1)

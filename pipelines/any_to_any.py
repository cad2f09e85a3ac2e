"""AnyToAnyPipeline: a list of texts and media in, a text, a picture, a clip or a sound out.

What is given decides what is done: a text becomes a picture, a picture and a text a clip that begins with it. Each pair
of what is given and what is asked for is done by one model that was trained for it, and nothing goes through a second
one. Whoever wants that calls twice: what comes out may be given again.

T frames, H W pixels, S samples.
"""

from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple, Self, cast

import torch
from torch import Tensor

from .media_to_text import MediaToTextPipeline
from .open_models import Model, open_models, shipped
from .prompt_items import Item, Items, Medium, Sound, as_beginning, as_clip, as_picture, as_sound, as_text, sorted_items
from .sampler_settings import SamplerSettings
from .speech_model import SpeechModel
from .text_to_image import Generators, TextToImagePipeline
from .text_to_speech import SpeechToSpeechPipeline, SpeechToTextPipeline, TextToSpeechPipeline
from .text_to_video import TextToVideoPipeline

OF_DRAWING = {field.name for field in fields(SamplerSettings)} - {"temperature"}  # settings that writing does not know


class Pair(NamedTuple):
    given: tuple[str, ...]  # kinds, in the order of `KINDS`
    to: str

    def __str__(self) -> str:
        return f"{' + '.join(self.given) or 'nothing'} -> {self.to}"


Ways = dict[Pair, Callable[..., Medium]]  # how pairs are done, given the items and what is set by name


class AnyToAnyPipeline:
    def __init__(self, *models: Model):
        """Of several models that know the same pair, the first does it."""
        self.models = models
        self._ways: Ways = {}
        for model in models:
            ways = picture_ways(model) if isinstance(model, TextToImagePipeline) else speech_ways(model)
            self._ways |= {pair: way for pair, way in ways.items() if pair not in self._ways}

    @classmethod
    def from_pretrained(cls, *names_or_paths: str | Path) -> Self:
        """Load shipped names ("tokenloom-mini") or folders that training wrote; none: all that are shipped.

        A folder may hold a model of pictures, one of speech, or both over one transformer.

        Raises:
            ValueError: one of them is no model, or a part is missing or broken.
        """
        return cls(*(model for name in names_or_paths or shipped() for model in open_models(name)))

    def to(self, device: str | torch.device) -> Self:
        for model in self.models:
            model.to(device)
        return self

    def knows(self) -> list[Pair]:
        """What these weights were trained for."""
        return list(self._ways)

    def __call__(
        self,
        prompt: Item | Sequence[Item],
        to: str,
        *,
        decoder: str = "ar",
        generator: Generators = None,
        **settings: Any,
    ) -> Medium:
        """Make one of `KINDS` from what is given.

        Args:
            prompt: texts; pictures float32 (3, H, W) and clips (3, T, H, W) at 8 frames per second, in [-1, 1];
                `Sound`s; and `Path`s of files of these, since a str is always text. They are fitted to the model's size
                and rate. Of two pictures the first is where a clip begins, the second where it ends.
            to: "text", "image", "video" or "audio".
            decoder: "ar", "masked" or "diffusion"; text is written by "ar".
            generator: one, from which the result's own is seeded, or a list with the result's own.
            settings: what else the pipeline of this pair takes by name, such as fields of `SamplerSettings`.

        Returns:
            A text; a picture float32 (3, H, W) or a clip (3, T, H, W), in [-1, 1]; or a `Sound`.

        Raises:
            ValueError: these weights were not trained for the pair, an item is none or cannot be read, or what the
                pipeline of this pair refuses.
        """
        items = sorted_items(prompt if isinstance(prompt, (list, tuple)) else [cast(Item, prompt)])
        pair = Pair(tuple(kind for kind, same in items.items() for _ in same), to)
        way = self._ways.get(pair)
        if way is None:
            known = ", ".join(map(str, self._ways)) or "nothing"
            raise ValueError(f"these weights know {known}, got {pair}; ask for one of these, or load others")
        if to != "text":
            settings["decoder"] = decoder
        elif drawing := sorted(OF_DRAWING & {*settings}):
            raise ValueError(f"text is written, not drawn, and knows no {drawing[0]}; leave it out")
        elif decoder != "ar":
            raise ValueError(f'text is written by "ar", got decoder {decoder!r}; leave it out')
        return way(items, generator=generator, **settings)


def picture_ways(model: TextToImagePipeline) -> Ways:
    """What a model that draws was trained for."""

    def draw(given: Items, **how: Any) -> Tensor:
        return model(as_text(given["text"][0]), output_type="pt", **how).images[0]

    def film(given: Items, **how: Any) -> Tensor:
        ends = [as_picture(item, model) for item in given.get("image", [])]
        frames: dict[str, Any] = dict(zip(("image", "last_image"), ends, strict=False))
        if "video" in given:
            frames["video"] = as_clip(given["video"][0], model)
        text = as_text(given["text"][0])
        return TextToVideoPipeline(model)(text, output_type="pt", **frames, **how).frames[0]

    def describe(given: Items, **how: Any) -> str:
        ((kind, (item,)),) = given.items()
        seen = as_picture(item, model) if kind == "image" else as_beginning(item, model)
        return MediaToTextPipeline(model)(seen, **how)[0]

    films = model.transformer.config.num_frames > 1
    ways: Ways = {Pair(("text",), "image"): draw}
    if films:
        given_frames = ((), ("image",), ("image", "image"), ("video",))
        ways |= {Pair(("text", *frames), "video"): film for frames in given_frames}
    if model.writes:
        ways |= {Pair((kind,), "text"): describe for kind in ("image", "video")[: 1 + films]}
    return ways


def speech_ways(model: SpeechModel) -> Ways:
    """What a model of speech was trained for."""

    def say(given: Items, **how: Any) -> Sound:
        said = TextToSpeechPipeline(model)(as_text(given["text"][0]), **how)
        return Sound(said.sounds[0], said.sample_rate)

    def answer(given: Items, **how: Any) -> Sound:
        answered = SpeechToSpeechPipeline(model)([as_sound(given["audio"][0], model)], **how)
        return Sound(answered.sounds[0], answered.sample_rate)

    def write_down(given: Items, **how: Any) -> str:
        return SpeechToTextPipeline(model)([as_sound(given["audio"][0], model)], **how)[0]

    ways: dict[str, tuple[Pair, Callable[..., Medium]]] = {
        "speak": (Pair(("text",), "audio"), say),
        "write": (Pair(("audio",), "text"), write_down),
        "answer": (Pair(("audio",), "audio"), answer),
    }
    return {pair: way for task, (pair, way) in ways.items() if task in model.tasks}

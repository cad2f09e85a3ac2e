"""TextToSpeechPipeline, SpeechToTextPipeline, SpeechToSpeechPipeline: what a model of speech is used for.

B texts or sounds, S samples. Keeps the habits of `diffusers.DiffusionPipeline`, as text_to_image.py does.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from ..models.likeliest import log_probabilities
from ..models.sound_objectives import Sounds
from ..models.writing import write
from .best_of import candidates
from .sampler_settings import DECODERS, SamplerSettings
from .speak import DEFAULTS, speak
from .speech_model import ANSWER, MAX_TEXT_TOKENS, SpeechModel
from .text_to_image import BATCH, Generators, check_prompt, picture_generators, words_of


@dataclass
class SpeechPipelineOutput:
    """`sounds`: float32 (1, S) in [-1, 1] at `sample_rate` Hz each, of their own lengths.

    `speakers` says in which voice each text was said, None where the model knows none by name. Answers have none.
    """

    sounds: list[Tensor]
    sample_rate: int
    speakers: list[str | None] = field(default_factory=list)


class _SpeechPipeline:
    task: str  # what the model must have learned

    def __init__(self, model: SpeechModel):
        model.check_task(self.task)
        self.model = model

    @classmethod
    def from_pretrained(cls, name_or_path: str | Path) -> Self:
        """Load a shipped name ("tokenloom-speech") or a folder that training wrote.

        Raises:
            ValueError: a part is missing or broken, or the model was not trained for this.
        """
        return cls(SpeechModel.from_pretrained(name_or_path))

    def to(self, device: str | torch.device) -> Self:
        self.model.to(device)
        return self

    def _speak(
        self,
        prompts: Sequence[Sequence[int]],
        heard: Sequence[Tensor] | None,
        decoder: str,
        generators: Sequence[torch.Generator],
        steps: int | None,
        settings: SamplerSettings,
    ) -> list[Tensor]:
        """Codes (t, K) of a sound for each prompt, of their own lengths."""
        sounds: list[Tensor] = []
        for start in range(0, len(prompts), BATCH):
            part = slice(start, start + BATCH)
            given = self.model.encode(heard[part]) if heard else None
            asked = list(prompts[part])
            if settings.guidance_scale != 1:
                asked += [[]] * len(asked)
                given = given and Sounds(given.codes.repeat(2, 1, 1), given.real.repeat(2, 1))
            prompt = self.model.prefilled(asked, given)
            drawn = speak(self.model.transformer, decoder, prompt, generators[part], settings, steps)
            sounds += [codes[real] for codes, real in zip(drawn.codes, drawn.real, strict=True)]
        return sounds

    def _sounds(self, codes: Sequence[Tensor]) -> SpeechPipelineOutput:
        sounds = [sound for one in codes for sound in self.model.decode(stacked([one]))]
        return SpeechPipelineOutput(sounds, self.model.audio_tokenizer.sample_rate)


def stacked(codes: Sequence[Tensor]) -> Sounds:
    """Sounds of their own lengths, (t, K) each -> padded, with what is real of each."""
    lengths = torch.tensor([len(one) for one in codes], device=codes[0].device)
    padded = torch.nn.utils.rnn.pad_sequence(list(codes), batch_first=True)
    return Sounds(padded, torch.arange(padded.shape[1], device=padded.device) < lengths[:, None])


def speech_settings(decoder: str, **settings: Any) -> SamplerSettings:
    """The decoder's defaults for speech with `settings` in their place; None is left at the default.

    Raises:
        ValueError: there is no such decoder, or a setting is out of range.
    """
    if decoder not in DEFAULTS:
        raise ValueError(f"decoder must be one of {', '.join(DECODERS)}, got {decoder!r}")
    return replace(DEFAULTS[decoder], **{name: value for name, value in settings.items() if value is not None})


class TextToSpeechPipeline(_SpeechPipeline):
    """A text in, its sound out, in one of the voices that the model knows."""

    task = "speak"

    def unknown_words(self, prompt: str) -> list[str]:
        """Words that no text of the training held, sorted; none if these are unknown."""
        return sorted(words_of(prompt) - self.model.lexicon) if self.model.lexicon else []

    def check_speaker(self, speaker: str | None) -> None:
        """Refuse a voice that the model does not know.

        Raises:
            ValueError: it is not among `model.voices`.
        """
        if speaker is not None and speaker not in self.model.voices:
            known = ", ".join(self.model.voices) or "none by name"
            raise ValueError(f"the voices of this model are {known}, got {speaker!r}; take one of them")

    def tokens(self, prompt: object, speaker: str | None = None) -> list[int]:
        """Token ids of what is to be said, and by whom.

        Raises:
            ValueError: not text, empty or too long; or a voice that the model does not know.
        """
        text = check_prompt(prompt)
        self.check_speaker(speaker)
        return self.model.tokens(spoken_prompt(text, speaker))

    @torch.no_grad()
    def __call__(
        self,
        text: str | Sequence[str],
        *,
        speaker: str | None = None,
        decoder: str = "ar",
        generator: Generators = None,
        seconds: float | None = None,
        **settings: Any,
    ) -> SpeechPipelineOutput:
        """Say texts, in the order in which they come.

        Args:
            speaker: one of `model.voices`; left out, each sound's generator draws one first. (`tokens` of no speaker
                leave the voice to the model, which then says fewer digits as it should.)
            decoder: "ar", "masked" or "diffusion".
            generator: one for all, from which each sound's own is seeded, or a list with one per sound.
            seconds: how long each will be, at most with `ar`; left out, the model says it.
            settings: fields of `SamplerSettings`; None or left out takes the decoder's own default.

        Raises:
            ValueError: see `tokens`; an unknown decoder; settings out of range.
        """
        chosen = speech_settings(decoder, **settings)
        self.check_speaker(speaker)
        texts = [text] if isinstance(text, (str, bytes)) else list(text)
        generators = picture_generators(generator, len(texts))
        speakers = [speaker or self._any_voice(one) for one in generators]
        prompts = [self.tokens(*said) for said in zip(texts, speakers, strict=True)]
        count = chosen.best_of
        if count > 1:
            self.model.check_task("write")
        every = [prompt for prompt in prompts for _ in range(count)]
        codes = self._speak(every, None, decoder, candidates(generators, count), self._steps(seconds), chosen)
        if count > 1:
            codes = self._best(codes, texts, count)
        return replace(self._sounds(codes), speakers=speakers)

    def _best(self, codes: Sequence[Tensor], texts: Sequence[str], count: int) -> list[Tensor]:
        """Of `count` sounds for each text the one of which the model itself would most likely write it."""
        tokenizer, scores = self.model.text_tokenizer, list[Tensor]()
        asked = [tokenizer.encode(text) for text in texts for _ in range(count)]
        for start in range(0, len(codes), BATCH):
            part = slice(start, start + BATCH)
            past = self.model.prefilled([[]] * len(codes[part]), stacked(codes[part]))
            num_tokens = tokenizer.vocab_size
            scores.append(
                log_probabilities(self.model.transformer, past, past.start, asked[part], num_tokens=num_tokens)
            )
        best = torch.cat(scores).view(-1, count).argmax(1).tolist()
        return [codes[number * count + chosen] for number, chosen in enumerate(best)]

    def _any_voice(self, generator: torch.Generator) -> str | None:
        voices = self.model.voices
        return voices[int(torch.randint(len(voices), (), generator=generator))] if voices else None

    def _steps(self, seconds: float | None) -> int | None:
        if seconds is None:
            return None
        longest = self.model.max_seconds
        if not 0 < seconds <= longest:
            raise ValueError(f"seconds must be above 0 and at most {longest:g}, got {seconds:g}; shorten it")
        rate = self.model.audio_tokenizer.sample_rate
        return self.model.audio_tokenizer.grid((max(1, round(seconds * rate)),))[1]


class SpeechToSpeechPipeline(_SpeechPipeline):
    """A sound in, the sound that answers it out; no text in between."""

    task = "answer"

    @torch.no_grad()
    def __call__(
        self, sounds: Sequence[Tensor], *, decoder: str = "ar", generator: Generators = None, **settings: Any
    ) -> SpeechPipelineOutput:
        """Answer sounds, each float32 (1, S) in [-1, 1] at the tokenizer's rate; guidance is off if nothing is said.

        Raises:
            ValueError: a sound that is too long or has another shape; an unknown decoder; settings out of range.
        """
        prompts = [self.model.text_tokenizer.encode(ANSWER)] * len(sounds)
        chosen = speech_settings(decoder, **({"guidance_scale": 1.0} | settings))
        if chosen.best_of > 1:
            raise ValueError(f"best_of must be 1 for answers, which no text is asked for, got {chosen.best_of}")
        generators = picture_generators(generator, len(prompts))
        return self._sounds(self._speak(prompts, list(sounds), decoder, generators, None, chosen))


class SpeechToTextPipeline(_SpeechPipeline):
    """A sound in, what it says out, written token by token."""

    task = "write"

    @torch.no_grad()
    def __call__(
        self, sounds: Sequence[Tensor], *, generator: Generators = None, temperature: float = 0.0
    ) -> list[str]:
        """What sounds say, each float32 (1, S) in [-1, 1] at the tokenizer's rate; temperature 0 leaves no chance.

        Raises:
            ValueError: a sound that is too long or has another shape, or a temperature below 0.
        """
        generators = picture_generators(generator, len(sounds))
        texts: list[str] = []
        tokenizer, model = self.model.text_tokenizer, self.model.transformer
        for start in range(0, len(sounds), BATCH):
            part = slice(start, start + BATCH)
            heard = self.model.encode(sounds[part])
            past = self.model.prefilled([[]] * len(heard.codes), heard)
            uniforms = torch.stack([torch.rand(MAX_TEXT_TOKENS, generator=g) for g in generators[part]])
            written = write(
                model,
                past,
                past.start,
                uniforms.to(self.model.device),
                num_tokens=tokenizer.vocab_size,
                temperature=temperature,
            )
            texts += [tokenizer.decode(tokens) for tokens in written]
        return texts


def spoken_prompt(text: str, speaker: str | None) -> str:
    """What the model is told: "theo: seven two nine", or the text alone."""
    return f"{speaker}: {text}" if speaker else text

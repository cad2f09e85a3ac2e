"""What a training run on speech starts from: where the speech comes from, and a new model for it."""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from ..models.transformer import SharedTransformer, TransformerConfig
from ..tokenizers.text import FILE_NAME, TextTokenizer
from .open_tokenizer import KINDS, UNTRAINED_SOUND, open_audio_tokenizer
from .speech_batches import SpeechData
from .speech_model import ANSWER, SpeechModel, sound_levels
from .speech_sources import open_recorded_speech
from .spoken_digits import MAX_SECONDS, WORDS, DigitStrings, DigitSums, at_another_speed

TEXT_VOCABULARY = 320  # 256 bytes and some words


def recorded_speech(specs: list[str], seconds: float, seed: int, *, sample_rate: int) -> SpeechData:
    """Recordings with their texts; nothing to answer. Errors as `open_recorded_speech`."""
    source = open_recorded_speech(specs, seconds=seconds, sample_rate=sample_rate, seed=seed)
    return SpeechData(source, source, None, source.texts, source.speakers)


def digit_speech(
    path: Path,
    seed: int,
    *,
    sample_rate: int,
    max_digits: int = 3,
    seconds: float = MAX_SECONDS,
    leave_out: str | None = None,
) -> SpeechData:
    """Strings of spoken digits: at other speeds to be said, under noise, too, to be understood; and their sums.

    Recordings of a digit that last longer than `seconds` are left out of the strings.

    Raises:
        ValueError: as `DigitStrings`, or `leave_out` is no speaker, or the only one.
    """
    speakers = DigitStrings(path, sample_rate=sample_rate, seed=seed).speakers
    if leave_out is not None:
        if leave_out not in speakers:
            raise ValueError(f"--leave-out takes one of {', '.join(speakers)}, got {leave_out!r}")
        speakers = tuple(speaker for speaker in speakers if speaker != leave_out)
    how: dict[str, Any] = {"sample_rate": sample_rate, "seed": seed, "speakers": speakers}
    said = DigitStrings(path, max_digits=max_digits, seconds=seconds, vary=at_another_speed, **how)
    heard = DigitStrings(path, max_digits=max_digits, seconds=seconds, **how)
    answers = DigitSums(path, vary=at_another_speed, **how)

    def texts() -> Iterable[str]:
        return (f"{speaker}: {' '.join(WORDS)}" for speaker in said.speakers)

    return SpeechData(said, heard, answers, texts, lambda: said.speakers)


def new_speech_model(
    texts: Iterable[str],
    folder: Path,
    *,
    tokenizer: str,
    codebooks: int,
    seconds: float,
    seed: int,
    **shape: Any,
) -> SpeechModel:
    """An untrained model with the sound tokenizer of this name, and a text tokenizer of these texts.

    The text tokenizer is left in `folder`, and taken from there if one lies there already.

    Raises:
        ValueError: there is no such sound tokenizer, or it has fewer codebooks.
    """
    sounds = open_audio_tokenizer(tokenizer)
    if not 1 <= codebooks <= sounds.num_codebooks:
        raise ValueError(f"{tokenizer} has 1 to {sounds.num_codebooks} codebooks, got {codebooks}")
    if (folder / FILE_NAME).is_file():
        words = TextTokenizer.from_pretrained(folder)
    else:
        words = TextTokenizer.train([*texts, ANSWER], vocab_size=TEXT_VOCABULARY)
        words.save_pretrained(folder)
    steps = sounds.grid((math.ceil(seconds * sounds.sample_rate),))[1]
    usual = {"width": 160, "num_layers": 5, "num_heads": 4}
    config = TransformerConfig(
        text_vocab_size=words.vocab_size,
        image_levels=(),
        sound_levels=sound_levels(sounds)[:codebooks],
        sound_steps=steps,
        **(usual | shape),
    )
    torch.manual_seed(seed)  # only the initial weights come from here
    return SpeechModel(SharedTransformer(config), sounds, words, sound_codes=known_by_name(tokenizer))


def known_by_name(tokenizer: str) -> str:
    """The name of a sound tokenizer that ships or needs no training, so that no model saves it; "" of any other."""
    return tokenizer if tokenizer in (KINDS["audio"].default, *UNTRAINED_SOUND) else ""

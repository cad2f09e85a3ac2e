"""The same texts said by each decoder, at the same guidance and from the same seeds: what is heard, and what it costs.

As compare.py does for pictures and clips, and on the same page. Whether a sound says what was asked is for whoever
hears it: the model itself, if it learned to write, or a recognizer trained apart. Of every sound there is a wav file
and its spectrogram. Everything but the seconds is the same in every run.

S samples.
"""

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..data.files import write_atomically, write_json
from ..data.media import write_png
from ..data.write_audio import write_audio
from .compare import Comparison, count_flops
from .report import report_html
from .sampler_settings import USED_BY, SamplerSettings
from .spectrograms import N_FFT, spectrogram
from .text_to_image import seeded, words_of_text
from .text_to_speech import SpeechToTextPipeline, TextToSpeechPipeline, speech_settings

Hear = Callable[[Sequence[Tensor], int], Sequence[str]]  # sounds (1, S) at a rate -> what each says
OWN_HEARING = "It was understood by the same model, which may know its own faults by heart."
JUDGE = "It was understood by a recognizer that was trained apart."


def own_hearing(pipeline: TextToSpeechPipeline) -> Hear | None:
    """What the model itself writes of sounds; None if it did not learn to write."""
    if SpeechToTextPipeline.task not in pipeline.model.tasks:
        return None
    listener = SpeechToTextPipeline(pipeline.model)
    return lambda sounds, rate: listener(sounds)


def evaluations(decoder: str, settings: SamplerSettings, steps: int, codebooks: int) -> int:
    """Runs of the transformer for a sound of so many steps, its prompt left out; a guided step counts two."""
    runs = {
        "ar": steps + codebooks - 1,
        "masked": codebooks * settings.num_inference_steps,
        "diffusion": settings.num_inference_steps,
    }[decoder]
    return runs if settings.guidance_scale == 1 else 2 * runs


def compare_sounds(
    pipeline: TextToSpeechPipeline,
    texts: Sequence[str],
    decoders: Sequence[str],
    *,
    count: int,
    seed: int,
    guidance_scale: float,
    speaker: str | None = None,
    hear: Hear | None = None,
    hearing: str = OWN_HEARING,
    model: str = "",
    advance: Callable[[], None] | None = None,
) -> Comparison:
    """Say each text `count` times by each decoder; sound k of a decoder is drawn from the seed `seed` + k.

    `hear` understands the sounds, and `hearing` says on the page who does. `advance` hears of every text and decoder
    that is done.
    """
    parts = pipeline.model
    rate, codebooks = parts.audio_tokenizer.sample_rate, parts.transformer.sound.num_codebooks
    files: dict[str, Tensor] = {}
    rows: list[dict[str, Any]] = []
    for number, text in enumerate(texts):
        first = seed + number * count
        cells: list[dict[str, Any]] = []
        for decoder in decoders:
            settings = speech_settings(decoder, guidance_scale=guidance_scale)
            say = partial(pipeline, speaker=speaker, decoder=decoder, guidance_scale=guidance_scale)
            flops = count_flops(partial(say, text, generator=seeded(first, 1)))  # warms up, too
            began = time.perf_counter()
            said = say([text] * count, generator=seeded(first, count))
            seconds, sounds = (time.perf_counter() - began) / count, said.sounds
            heard = list(hear(sounds, rate)) if hear else None
            passed = [words_of_text(one) == words_of_text(text) for one in heard] if heard is not None else None
            entries = [
                {
                    "file": f"{number:02}-{decoder}-{n:02}.wav",
                    "strip": f"{number:02}-{decoder}-{n:02}.png",
                    "seed": first + n,
                    "speaker": said.speakers[n],
                    "heard": heard and heard[n],
                    "passed": passed and passed[n],
                }
                for n in range(count)
            ]
            files |= {str(entry["file"]): sound for entry, sound in zip(entries, sounds, strict=True)}
            steps = [parts.audio_tokenizer.grid((sound.shape[1],))[1] for sound in sounds]
            runs = [evaluations(decoder, settings, one, codebooks) for one in steps]
            cells.append(
                {
                    "decoder": decoder,
                    "settings": {name: getattr(settings, name) for name in USED_BY[decoder]},
                    "seconds": round(seconds, 4),
                    "model_evaluations": round(sum(runs) / count, 1),
                    "gigaflops": flops / 1e9,
                    "passed": None if passed is None else sum(passed),
                    "drawings": entries,
                }
            )
            if advance:
                advance()
        rows.append({"prompt": text, "judged": hear is not None, "decoders": cells})
    report = {
        "model": model,
        "on": "sounds",
        "noun": "sound",
        "hearing": hearing,
        "speaker": speaker,
        "parameters": sum(p.numel() for p in parts.transformer.parameters()),
        "sample_rate": rate,
        "guidance_scale": guidance_scale,
        "seed": seed,
        "count": count,
        "torch": torch.__version__,
        "device": parts.device.type,
        "threads": torch.get_num_threads(),
        "decoders": [_overall([row["decoders"][n] for row in rows]) for n in range(len(decoders))],
        "prompts": rows,
    }
    return Comparison(report, files)


def _overall(cells: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One decoder over all texts: means for one sound, and verdicts added up."""
    judged = [cell for cell in cells if cell["passed"] is not None]
    means = ("seconds", "model_evaluations", "gigaflops")
    return {
        "decoder": cells[0]["decoder"],
        "settings": cells[0]["settings"],
        **{name: round(sum(cell[name] for cell in cells) / len(cells), 4) for name in means},
        "passed": sum(cell["passed"] for cell in judged),
        "judged": sum(len(cell["drawings"]) for cell in judged),
    }


def write_sound_comparison(folder: Path, comparison: Comparison) -> None:
    """The sounds with their spectrograms, report.json, and report.html, which holds them all."""
    rate, names = comparison.report["sample_rate"], []
    for name, sound in comparison.drawings.items():
        write_audio(folder / name, sound, rate)
        picture = Path(name).with_suffix(".png").name
        padded = F.pad(sound, (0, max(0, N_FFT - sound.shape[1])))
        write_png(folder / picture, spectrogram(padded[None], rate)[0])
        names += [name, picture]
    write_json(folder / "report.json", comparison.report)
    page = report_html(comparison.report, {name: (folder / name).read_bytes() for name in names})
    write_atomically(folder / "report.html", page.encode())

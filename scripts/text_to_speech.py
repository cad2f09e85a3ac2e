"""Say texts, by any of the three decoders, in one of the voices that the model knows.

One text: --out is the file, and its ending says what it is: .wav, .flac, .ogg or .mp3. Several: --out is a folder with
00000.wav, 00001.wav, ... in the order of the texts, and index.jsonl, a line per sound. Sound k has the seed --seed + k,
and a seed always gives the same bytes.
"""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokenloom.scripts.cli import CommandParser, main_of, open_device
from tokenloom.scripts.option_types import out_path
from tokenloom.scripts.prompt_options import (
    add_best_of,
    add_prompt_options,
    check_out,
    check_prompts,
    numbered,
    prompts_asked_for,
    sampler_options,
    write_drawings,
)

if TYPE_CHECKING:
    from torch import Tensor

NUM_SOUNDS = "--num-sounds"


def build_parser() -> argparse.ArgumentParser:
    parser = CommandParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_prompt_options(parser, "sound", NUM_SOUNDS, model="tokenloom-speech", says="says")
    add_best_of(parser, "sound")
    parser.add_argument("--speaker", metavar="NAME", help="whose voice; default: each sound's seed draws one")
    parser.add_argument("--seconds", type=float, metavar="S", help="how long; default: the model says it")
    parser.add_argument(
        "--out", type=out_path, required=True, metavar="PATH", help="the sound, or the folder of several"
    )
    return parser


def run(arguments: argparse.Namespace) -> int:
    texts = prompts_asked_for(arguments, "sound")
    count = len(texts) * arguments.copies
    check_out(arguments.out, "sound", [".wav", ".flac", ".ogg", ".mp3"], several=count > 1)

    from tokenloom.data.progress import Progress
    from tokenloom.data.write_audio import write_audio
    from tokenloom.pipelines.draw_files import drawings
    from tokenloom.pipelines.text_to_image import BATCH
    from tokenloom.pipelines.text_to_speech import TextToSpeechPipeline

    pipeline = TextToSpeechPipeline.from_pretrained(arguments.model).to(open_device(arguments.device))
    pipeline.check_speaker(arguments.speaker)
    rate = pipeline.model.audio_tokenizer.sample_rate

    def say(batch: list[str], **how: Any) -> "list[Tensor]":
        voice = {"speaker": arguments.speaker, "seconds": arguments.seconds}
        return pipeline(batch, **voice, **how, **sampler_options(arguments)).sounds

    def write(path: Path, sound: "Tensor") -> None:
        write_audio(path, sound, rate)
        progress.advance()

    todo = numbered(texts, arguments.copies, check_prompts(pipeline, texts))
    said = drawings(say, todo, decoder=arguments.decoder, seed=arguments.seed)
    progress = Progress("saying", count, enabled=count > BATCH)
    return write_drawings(said, count, arguments.out, "sound", ".wav", write, progress)


if __name__ == "__main__":
    sys.exit(main_of(build_parser, run))

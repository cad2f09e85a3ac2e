"""Train the shared transformer on speech: to say texts, to write what was said, to answer sounds by sounds.

--data takes folders and tars of recordings with their texts (name.txt beside name.wav). --digits takes one of single
spoken digits (its names are DIGIT_SPEAKER_TAKE.wav), and makes of them strings of digits to say and to write, and pairs
to answer: two digits are heard, and their sum is spoken. Curves, spectrograms, sounds and checkpoints lie in --out, the
finished model in --out/final. A run that was killed and is started again with --resume ends in the same weights.
`accelerate launch` trains on several devices.
"""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tokenloom.scripts.cli import CommandParser, UsageError, given, main_of, open_device, usable
from tokenloom.scripts.option_types import (
    NATURAL,
    POSITIVE,
    SECONDS,
    SHARE,
    out_folder,
    spec,
)
from tokenloom.scripts.several_processes import HELP, main_process_first, open_accelerator
from tokenloom.scripts.training_options import add_learning_options, add_shape_options

if TYPE_CHECKING:
    from tokenloom.pipelines.speech_model import SpeechModel

RECIPE = (
    *("decoders", "steps", "batch_size", "muon_lr", "adamw_lr", "warmup", "decay", "ema_decay", "bfloat16"),
    *("compile", "seed", "evaluate_every", "checkpoint_every"),
)
SHAPE = ("width", "num_layers", "num_heads", "storage_dtype")


def build_parser() -> argparse.ArgumentParser:
    parser = CommandParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--data", type=spec, nargs="+", default=[], metavar="SPEC", help="recordings with their texts")
    add("--digits", type=Path, metavar="PATH", help="single spoken digits, to make strings and sums of")
    add("--out", type=out_folder, required=True, metavar="DIR", help="folder of the run")
    add("--resume", action="store_true", help="go on from the last checkpoint in --out")
    add("--init", metavar="MODEL", help="start from the weights and tokenizers of this model of speech")
    add("--tokenizer", metavar="NAME_OR_DIR", help="of sounds; default: tokenloom-voice, or that of --init")
    add("--codebooks", type=POSITIVE, metavar="K", help="of the tokenizer's, the first; default: 3")
    add("--seconds", type=SECONDS, default=4.0, metavar="S", help="of the longest sound; default: %(default)s")
    add("--leave-out", metavar="SPEAKER", help="of --digits, a speaker who is not learned")
    add("--device", default="cpu", help="where to train, such as cuda; default: %(default)s")
    add("--workers", type=NATURAL, default=0, metavar="N", help="processes that draw and read ahead; default: none")
    add("--accelerate", action="store_true", help=HELP)

    shape = parser.add_argument_group("transformer").add_argument
    add_shape_options(shape, width=160, layers="default: 5", heads=4)

    learn = add_learning_options(
        parser,
        steps=6000,
        examples="sounds of a step",
        muon_lr=0.004,
        watched="losses and samples",
        checkpoint_every=200,
    )
    learn("--speak", type=SHARE, metavar="SHARE", help="of the steps that learn to say texts; default: 0.5")
    learn("--write", type=SHARE, metavar="SHARE", help="of those that learn to write what was said; default: 0.3")
    learn("--answer", type=SHARE, metavar="SHARE", help="of those that learn to answer; default: 0.2 with --digits")
    learn("--compile", action="store_true", default=None, help="fuse the trunk with torch.compile")
    return parser


def run(arguments: argparse.Namespace) -> int:
    if not arguments.data and not arguments.digits:
        raise UsageError("speech must come from somewhere: --data SPEC or --digits PATH is needed")
    if arguments.answer and not arguments.digits:
        raise UsageError("--answer takes pairs of sounds, which --digits makes; leave it out")
    if arguments.data and arguments.digits:
        raise UsageError("--data and --digits are trained on one after the other; go on with --init")

    if arguments.leave_out and not arguments.digits:
        raise UsageError("--leave-out names a speaker of --digits; leave it out")
    tokenizer = arguments.tokenizer or "tokenloom-voice"

    from tokenloom.pipelines.open_tokenizer import open_audio_tokenizer
    from tokenloom.pipelines.prepare_speech import digit_speech, new_speech_model, recorded_speech
    from tokenloom.pipelines.speech_batches import SpeechRecipe
    from tokenloom.pipelines.speech_model import SpeechModel
    from tokenloom.pipelines.train_speech import train_speech

    shares = {"speak": arguments.speak, "write": arguments.write, "answer": arguments.answer}
    usual = {"speak": 0.5, "write": 0.3, "answer": 0.2 if arguments.digits else 0.0}
    chosen = {name: usual[name] if share is None else share for name, share in shares.items()}
    recipe = usable(
        SpeechRecipe,
        data=tuple(map(str, [*arguments.data, *([arguments.digits] if arguments.digits else [])]))
        + ((f"without {arguments.leave_out}",) if arguments.leave_out else ()),
        shares={name: share for name, share in chosen.items() if share > 0},
        **given(arguments, *RECIPE),
    )
    model = SpeechModel.from_pretrained(arguments.init) if arguments.init else None
    if model:
        check_brought(arguments, model)
    rate = (model.audio_tokenizer if model else open_audio_tokenizer(tokenizer)).sample_rate
    if arguments.digits:
        data = digit_speech(arguments.digits, recipe.seed, sample_rate=rate, leave_out=arguments.leave_out)
    else:
        data = recorded_speech(arguments.data, arguments.seconds, recipe.seed, sample_rate=rate)
    accelerator = open_accelerator(arguments.accelerate)
    with main_process_first(accelerator) as is_main:
        model = model or new_speech_model(
            data.texts(),
            arguments.out / "text_tokenizer",
            tokenizer=tokenizer,
            codebooks=arguments.codebooks or 3,
            seconds=arguments.seconds,
            seed=recipe.seed,
            **given(arguments, *SHAPE),
        )
    model.to(accelerator.device if accelerator else open_device(arguments.device))
    trained = train_speech(
        model,
        recipe,
        data,
        arguments.out,
        resume=arguments.resume,
        fresh=not arguments.init,
        workers=arguments.workers,
        accelerator=accelerator,
        say=accelerator.print if accelerator else print,
    )
    if is_main:
        trained.save_pretrained(arguments.out / "final")
        print(arguments.out / "final")
    return 0


def check_brought(arguments: argparse.Namespace, model: "SpeechModel") -> None:
    """
    Raises:
        UsageError: something else is asked for than the model of --init brings.
    """
    from tokenloom.pipelines.open_tokenizer import open_audio_tokenizer

    config = model.transformer.config
    brought = {name: getattr(config, name) for name in SHAPE} | {"codebooks": len(config.sound_levels)}
    for name, value in given(arguments, *brought).items():
        if value != brought[name]:
            raise UsageError(f"--init brings {name} {brought[name]}, not {value}; keep it")
    if arguments.tokenizer:
        if open_audio_tokenizer(arguments.tokenizer).fingerprint != model.audio_tokenizer.fingerprint:
            raise UsageError(f"--init brings another tokenizer than {arguments.tokenizer}; leave out --tokenizer")


if __name__ == "__main__":
    sys.exit(main_of(build_parser, run))

"""Draw fresh prompts of the built-in scenes or clips, and keep what the detector finds true as token shards.

  tokenloom draw-shards tokenloom-mini --per-kind 1000 --out own
  tokenloom train --init tokenloom-mini --data scenes own --out finished

A model that learns from its own true drawings, beside those of the world, draws what was asked more often. Say so where
you report its score, and the score before: the judge of the score chose what was learned.
"""

import argparse
import sys
import warnings

from tokenloom.pipelines.sampler_settings import DECODERS
from tokenloom.scripts.cli import CommandParser, comma_separated, given, main_of, open_device
from tokenloom.scripts.option_types import GUIDANCE, NATURAL, POSITIVE, STEPS, TEMPERATURE, out_folder, seed_number
from tokenloom.scripts.prompt_options import refuse_unused

SETTINGS = ("guidance_scale", "num_inference_steps", "temperature")


def build_parser() -> argparse.ArgumentParser:
    parser = CommandParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("model", metavar="MODEL", help="a shipped name or a folder; its tokenizers make the ids")
    add("--on", choices=("scenes", "clips"), default="scenes", help="what to ask for; default: %(default)s")
    add("--decoder", type=comma_separated(str, DECODERS), default=("ar",), metavar="D,...", dest="decoders")
    add("--per-kind", type=POSITIVE, default=1000, metavar="N", help="to keep, by each decoder; default: %(default)s")
    add("--seed", type=seed_number, default=0, metavar="S", help="default: %(default)s")
    add("--guidance-scale", type=GUIDANCE, metavar="G", help="default: each decoder's own, as of what follows")
    add("--steps", dest="num_inference_steps", type=STEPS, metavar="N", help="of masked and diffusion")
    add("--temperature", type=TEMPERATURE, metavar="T", help="of what is drawn")
    add("--batch-size", type=POSITIVE, default=16, metavar="N", help="drawn at once; default: %(default)s")
    add("--workers", type=NATURAL, default=0, metavar="N", help="processes that judge; default: none")
    add("--device", default="cpu", help="where to draw, such as cuda; default: %(default)s")
    add("--out", type=out_folder, required=True, metavar="DIR", help="folder of the shards")
    return parser


def run(arguments: argparse.Namespace) -> int:
    from tokenloom.data.loader import seed_of
    from tokenloom.data.progress import Progress
    from tokenloom.pipelines.text_to_image import TextToImagePipeline, UnknownWordWarning
    from tokenloom.pipelines.true_drawings import TrueDrawing, refuse_drawings, true_drawings, write_drawings
    from tokenloom.pipelines.worlds import CLIPS, SCENES

    settings = given(arguments, *SETTINGS)
    refuse_unused(settings, arguments.decoders, ", ".join(arguments.decoders))
    refuse_drawings(arguments.out)
    world = CLIPS if arguments.on == "clips" else SCENES
    pipeline = TextToImagePipeline.from_pretrained(arguments.model).to(open_device(arguments.device))
    kept: list[TrueDrawing] = []
    with Progress("drawing", len(arguments.decoders) * len(world.kinds) * arguments.per_kind) as progress:
        for number, decoder in enumerate(arguments.decoders):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UnknownWordWarning)
                kept += true_drawings(
                    pipeline,
                    decoder,
                    world,
                    per_kind=arguments.per_kind,
                    seed=seed_of(arguments.seed, number),
                    batch_size=arguments.batch_size,
                    workers=arguments.workers,
                    advance=progress.advance,
                    **settings,
                )
    if not kept:
        raise ValueError(
            f"at least one drawing must be true, got none in ten tries each; train {arguments.model} longer"
        )
    write_drawings(kept, arguments.out, pipeline, world, model=arguments.model)
    wanted = len(arguments.decoders) * len(world.kinds) * arguments.per_kind
    print(f"{arguments.out}: {len(kept):,} true drawings of {wanted:,} wanted")
    return 0


if __name__ == "__main__":
    sys.exit(main_of(build_parser, run))

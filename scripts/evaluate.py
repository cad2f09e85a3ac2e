"""How often a model draws what was asked: on fresh prompts of the built-in scenes or clips, judged by a detector.

Prints a table; with --out DIR also writes evaluation.json (every prompt with its seed and verdict) and a sheet of
pictures, or of strips of clips, for each decoder, green where the detector passed. A row's +-95% is half the interval
of "overall", its seconds are those of one picture or clip.

--sweep tries sampler settings one after the other on prompts that are never reported; --reconstructions judges the
image tokenizer alone: scenes or clips that it encodes and decodes; --captions judges what the model writes about fresh
scenes or clips.
"""

import argparse
import sys
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tokenloom.pipelines.sampler_settings import DECODERS
from tokenloom.scripts.cli import CommandParser, UsageError, comma_separated, main_of, open_device
from tokenloom.scripts.option_types import (
    GUIDANCE,
    POSITIVE,
    STEPS,
    TEMPERATURE,
    out_folder,
    seed_number,
    whole_number,
)
from tokenloom.scripts.prompt_options import add_fine_options, refuse_unused

if TYPE_CHECKING:
    from tokenloom.pipelines.evaluate import Evaluation
    from tokenloom.pipelines.text_to_image import TextToImagePipeline
    from tokenloom.pipelines.worlds import World


def build_parser() -> argparse.ArgumentParser:
    parser = CommandParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="tokenloom-mini", metavar="MODEL", help="default: %(default)s")
    parser.add_argument(
        "--on", choices=("scenes", "clips"), default="scenes", help="what to ask for; default: %(default)s"
    )
    parser.add_argument(
        "--decoder",
        "--decoders",
        type=comma_separated(str, DECODERS),
        default=DECODERS,
        metavar="D,...",
        dest="decoders",
    )
    parser.add_argument(
        "--prompts-per-kind", type=whole_number(1, 10_000), default=100, metavar="N", help="default: %(default)s"
    )
    parser.add_argument(
        "--seed",
        "--seeds",
        type=comma_separated(seed_number),
        default=(0,),
        metavar="S,...",
        dest="seeds",
        help="default: 0",
    )
    parser.add_argument("--new", action="store_true", help="also ask for combinations that training never drew")
    parser.add_argument("--guidance-scale", type=GUIDANCE, metavar="G")
    parser.add_argument("--steps", type=STEPS, metavar="N", help="of masked and diffusion")
    parser.add_argument("--temperature", type=TEMPERATURE, metavar="T", help="of what is drawn")
    add_fine_options(parser)
    parser.add_argument("--best-of", type=POSITIVE, metavar="N", help="judge the one of N that the model finds truest")
    parser.add_argument("--sweep", action="store_true", help="look for the best settings among usual ones")
    parser.add_argument("--reconstructions", action="store_true", help="judge the image tokenizer; MODEL may be one")
    parser.add_argument(
        "--captions", action="store_true", help="judge the captions that MODEL writes of fresh examples"
    )
    parser.add_argument(
        "--batch-size", type=POSITIVE, default=16, metavar="N", help="drawn at once; default: %(default)s"
    )
    parser.add_argument("--device", default="cpu", help="where to draw, such as cuda; default: %(default)s")
    parser.add_argument("--out", type=out_folder, metavar="DIR", help="folder of evaluation.json and the sheets")
    return parser


def run(arguments: argparse.Namespace) -> int:
    if arguments.reconstructions + arguments.sweep + arguments.captions > 1:
        raise UsageError("--reconstructions, --captions and --sweep are different things; ask for one")
    one = "--reconstructions" if arguments.reconstructions else "--captions" if arguments.captions else ""
    drawing = () if one else arguments.decoders
    refuse_unused(settings_in(arguments), drawing, one or ", ".join(drawing))
    if arguments.new and (one or arguments.sweep):
        raise UsageError(f"--new is about drawings that are counted; leave it out with {one or '--sweep'}")
    if arguments.sweep and len(arguments.seeds) > 1:
        raise UsageError("--sweep tries every setting from one seed; give it one")

    from tokenloom.pipelines.worlds import CLIPS, SCENES

    world = CLIPS if arguments.on == "clips" else SCENES
    report = {"model": str(arguments.model), "on": world.name, "prompts_per_kind": arguments.prompts_per_kind}
    if arguments.reconstructions:
        report["reconstructions"] = reconstructions(world, arguments)
    elif arguments.captions:
        report["captions"] = captions(world, arguments)
    else:
        from tokenloom.pipelines.text_to_image import TextToImagePipeline, UnknownWordWarning

        pipeline = TextToImagePipeline.from_pretrained(arguments.model).to(open_device(arguments.device))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UnknownWordWarning)  # words of scenes that a model never saw cost it points
            report["results"] = (swept if arguments.sweep else evaluated)(pipeline, world, arguments)
    if arguments.out:
        from tokenloom.data.files import write_json

        path = arguments.out / "evaluation.json"
        write_json(path, report)
        print(path)
    return 0


def settings_in(arguments: argparse.Namespace) -> dict[str, Any]:
    return {
        "guidance_scale": arguments.guidance_scale,
        "num_inference_steps": arguments.steps,
        "temperature": arguments.temperature,
        "choice_temperature": arguments.choice_temperature,
        "guidance_from": arguments.guidance_from,
        "guidance_until": arguments.guidance_until,
        "best_of": arguments.best_of,
    }


def reconstructions(world: "World", arguments: argparse.Namespace) -> list[dict[str, Any]]:
    from tokenloom.pipelines.evaluate import score_reconstructions
    from tokenloom.pipelines.open_tokenizer import open_image_tokenizer

    device = open_device(arguments.device)
    tokenizer = open_image_tokenizer(arguments.model).to(device)
    results = []
    for seed in arguments.seeds:
        shares = score_reconstructions(tokenizer, arguments.prompts_per_kind, seed, device=device, world=world)
        print(f"reconstructions, seed {seed}: " + ", ".join(f"{name} {share:.3f}" for name, share in shares.items()))
        results.append({"seed": seed, "shares": shares})
    return results


def captions(world: "World", arguments: argparse.Namespace) -> list[dict[str, Any]]:
    from tokenloom.pipelines.caption_score import true_shares, write_captions
    from tokenloom.pipelines.media_to_text import MediaToTextPipeline

    pipeline = MediaToTextPipeline.from_pretrained(arguments.model).to(open_device(arguments.device))
    results = []
    for seed in arguments.seeds:
        written = write_captions(pipeline, arguments.prompts_per_kind, seed, world)
        shares = true_shares(written)
        print(f"true captions, seed {seed}: " + ", ".join(f"{name} {share:.3f}" for name, share in shares.items()))
        results.append({"seed": seed, "shares": shares, "written": [vars(row) for row in written]})
    return results


def evaluated(pipeline: "TextToImagePipeline", world: "World", arguments: argparse.Namespace) -> list[dict[str, Any]]:
    from tokenloom.data.media import write_png
    from tokenloom.data.progress import Progress
    from tokenloom.pipelines.contact_sheet import evaluation_sheet
    from tokenloom.pipelines.evaluate import evaluate, summary, table

    per_kind, seeds = arguments.prompts_per_kind, arguments.seeds
    kinds = len(world.kinds) + len(world.held_out_kinds) * arguments.new
    results = []
    with Progress("drawing", len(arguments.decoders) * len(seeds) * kinds * per_kind) as progress:
        for decoder in arguments.decoders:
            for held_out in (False, True) if arguments.new else (False,):
                found = [
                    evaluate(
                        pipeline,
                        decoder,
                        per_kind=per_kind,
                        seed=seed,
                        world=world,
                        held_out=held_out,
                        batch_size=arguments.batch_size,
                        advance=progress.advance,
                        **settings_in(arguments),
                    )
                    for seed in seeds
                ]
                results.append(summary(found) | {"verdicts": verdicts(found)})
                if arguments.out:
                    name = f"{decoder}-{'new' if held_out else 'known'}.png"
                    write_png(arguments.out / name, evaluation_sheet(found[0]))
    print(table(results))
    return results


def swept(pipeline: "TextToImagePipeline", world: "World", arguments: argparse.Namespace) -> list[dict[str, Any]]:
    from tokenloom.data.progress import Progress
    from tokenloom.pipelines.evaluate import VALIDATION_SEED, summary, table
    from tokenloom.pipelines.sweep import GRIDS, best, sweep, tries

    said = {name: value for name, value in settings_in(arguments).items() if value is not None}
    grids = {d: {name: values for name, values in GRIDS[d].items() if name not in said} for d in arguments.decoders}
    per_kind = arguments.prompts_per_kind
    results = []
    with Progress("drawing", sum(map(tries, grids.values())) * len(world.kinds) * per_kind) as progress:
        for decoder, grid in grids.items():
            found = list(
                sweep(
                    pipeline,
                    decoder,
                    grid,
                    per_kind=per_kind,
                    seed=VALIDATION_SEED + arguments.seeds[0],
                    world=world,
                    batch_size=arguments.batch_size,
                    advance=progress.advance,
                    **said,
                )
            )
            chosen = best(found)
            results += [summary([one]) | {"best": one is chosen} for one in found]
    print(table(results))
    print("best:")
    print(table([result for result in results if result["best"]]))
    return results


def verdicts(evaluations: "Sequence[Evaluation]") -> list[dict[str, Any]]:
    """Every prompt with the seed it was drawn from and whether it passed."""
    return [
        {"kind": request.kind, "prompt": request.text, "seed": evaluation.seed + number, "passed": passed}
        for evaluation in evaluations
        for number, (request, passed) in enumerate(zip(evaluation.requests, evaluation.passed, strict=True))
    ]


if __name__ == "__main__":
    sys.exit(main_of(build_parser, run))

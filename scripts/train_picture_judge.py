"""Train a judge of what pictures show on captioned pictures of your own: tokenloom evaluate-names asks it.

It learns which name each picture goes by. A name is the whole caption, or what --name finds in it: with
--name "(.+), .+ emoji" both "cat, 3D emoji" and "cat, flat emoji" are pictures of "cat". Prints how many of the
pictures it names rightly as they are, whether it was shown them like that or not.
"""

import argparse
import sys
from pathlib import Path

from tokenloom.scripts.cli import CommandParser, main_of
from tokenloom.scripts.option_types import POSITIVE, out_folder, pattern_with_group, seed_number, whole_number


def build_parser() -> argparse.ArgumentParser:
    parser = CommandParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--data", nargs="+", required=True, type=Path, metavar="PATH", help="folders or tars of captioned pictures")
    add("--out", required=True, type=out_folder, metavar="DIR", help="where the judge goes")
    add(
        "--name",
        type=pattern_with_group,
        default="(.*)",
        metavar="REGEX",
        help="its first group finds the name in a caption",
    )
    add("--size", type=whole_number(16, 512), default=64, metavar="S", help="pixels; default: %(default)s")
    add("--steps", type=POSITIVE, default=4000, help="of 64 pictures; default: %(default)s")
    add("--bfloat16", action="store_true", help="compute in bfloat16: faster on many processors")
    add("--seed", type=seed_number, default=0, help="default: %(default)s")
    add("--resume", action="store_true", help="go on where a run was stopped")
    return parser


def run(arguments: argparse.Namespace) -> int:
    from tokenloom.data.media import from_uint8
    from tokenloom.models.picture_classifier import PictureClassifierConfig
    from tokenloom.pipelines.named_pictures import read_named
    from tokenloom.pipelines.picture_judge import PictureJudgeRecipe, recognized, train_picture_judge

    pictures = read_named(arguments.data, arguments.size, arguments.name)
    config = PictureClassifierConfig(names=pictures.vocabulary, name_pattern=arguments.name, size=arguments.size)
    print(f"{len(pictures.names):,} pictures of {len(config.names):,} names", flush=True)
    recipe = PictureJudgeRecipe(steps=arguments.steps, seed=arguments.seed)
    judge = train_picture_judge(
        config, recipe, pictures, arguments.out / "run", bfloat16=arguments.bfloat16, resume=arguments.resume
    )
    judge.save_pretrained(arguments.out)
    real = from_uint8(pictures.pixels)
    for count in (1, 5):
        print(f"named among the first {count}: {sum(recognized(judge, real, pictures.names, count)) / len(real):.3f}")
    print(arguments.out)
    return 0


if __name__ == "__main__":
    sys.exit(main_of(build_parser, run))

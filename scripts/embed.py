"""A vector of each text, picture, clip and sound: vectors of what tells the same are alike.

PATH takes pictures, clips and folders of them; of a picture the middle square is looked at, of a clip the beginning.
With a model of speech (--model tokenloom-speech) it takes sounds, of which the beginning is heard if they are longer
than what the model knows, and a text is what is said.
--out gets the tensor "vectors", a row of length 1 for each, the texts first; beside it, a .jsonl names what each row is
of. Where there are texts, each file is printed with the text that is nearest and the cosine of the two. A file that
cannot be read is told about and left out, and the exit code is then 1.
"""

import argparse
import sys
from pathlib import Path

from tokenloom.scripts.cli import CommandParser, UsageError, in_one_line, main_of, open_device
from tokenloom.scripts.option_types import out_file


def build_parser() -> argparse.ArgumentParser:
    parser = CommandParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("files", nargs="*", type=Path, metavar="PATH", help="pictures and clips, or sounds, or folders of them")
    add("--text", nargs="+", action="extend", default=[], dest="texts", metavar="TEXT", help="texts")
    add("--model", default="tokenloom-mini", metavar="NAME_OR_DIR", help="default: %(default)s")
    add("--device", default="cpu", help="where to run, such as cuda; default: %(default)s")
    add("--out", type=out_file, metavar="SAFETENSORS", help="file of the vectors")
    return parser


def run(arguments: argparse.Namespace) -> int:
    if not arguments.files and not arguments.texts:
        raise UsageError("a PATH or --text is needed")
    if arguments.out is None and not (arguments.files and arguments.texts):
        raise UsageError("--out is needed, or files and --text to compare")
    if arguments.out is not None and arguments.out.suffix != ".safetensors":
        raise UsageError(f"--out must end in .safetensors, got {arguments.out}")

    import torch

    from tokenloom.data.find_files import sort_files
    from tokenloom.pipelines.embed import EmbeddingPipeline
    from tokenloom.pipelines.embed_files import embed_files, embed_texts, readers, save_vectors

    index = arguments.out and arguments.out.with_suffix(".jsonl")
    if index and index.exists() and not arguments.out.exists():
        raise UsageError(f"{index} is there already, and no index of {arguments.out}; name another file")
    found = sort_files(arguments.files) if arguments.files else {}
    pipeline = EmbeddingPipeline.from_pretrained(arguments.model).to(open_device(arguments.device))
    known = readers(pipeline)
    named = {path.resolve() for path in arguments.files}  # in folders, what the model does not know may lie beside
    files = [
        (modality, path)
        for modality, paths in found.items()
        for path in paths.values()
        if modality in known or path.resolve() in named
    ]
    if arguments.files and not files:
        where = ", ".join(map(str, arguments.files))
        raise UsageError(f"no {' or '.join(known)} file in {where}, of which this model makes vectors; name others")
    rows = embed_texts(pipeline, arguments.texts)
    texts = torch.stack([row.vector for row in rows if row.vector is not None]) if rows else None
    failed = 0
    for row in embed_files(pipeline, files):
        if row.vector is None:
            print(f"skipped {row.error}", file=sys.stderr)
            failed += 1
            continue
        rows.append(row)
        if texts is not None:
            cosine, nearest = (texts @ row.vector).max(0)
            told = in_one_line(row.name), in_one_line(arguments.texts[int(nearest)])
            print(*told, f"{float(cosine):.3f}", sep="\t", flush=True)
    if arguments.out and rows:
        save_vectors(arguments.out, rows)
        print(arguments.out)
    if failed:
        print(f"{failed} of {len(files)} files could not be read", file=sys.stderr)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main_of(build_parser, run))

"""Where the codes of training examples come from when they were made before: token shards, mixed with other sources.

A spec that names a folder that `tokenize` wrote, such as "shards/:2", gives codes (int64) where others give pictures
(uint8), in the order in which the pictures of the same folder would be drawn. Captions are the texts that were
tokenized beside them: `cat.txt` of `cat.png`. h w is the grid of codes of a picture, T the frames of a piece of a clip.
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from ..data.folders import MAX_TEXT_BYTES
from ..data.media import MediaError
from ..data.shard_reader import ShardReader, holds_shards, shard_folders
from ..data.token_examples import TokenExamples
from ..tokenizers.frames import FramesTokenizer
from ..tokenizers.text import TextTokenizer
from .clip_sources import clip_source_of
from .open_tokenizer import PictureTokenizer, open_text_tokenizer
from .picture_sources import Draw, MixedSource, Pictures, held_out_files, parse_shares, seeds_of, source_of, whole
from .prepare_training import grid_of

log = logging.getLogger(__name__)


class ShardSource:
    """A PictureSource of codes: examples in equal chance, those for training and for validation held apart.

    `codes` gives int64 (h, w), or (T, h, w) of clips, of an example by its number. A caption that cannot be read is a
    MediaError, and its example is replaced by the next that is drawn, as a broken picture is.
    """

    def __init__(
        self,
        codes: Callable[[int, torch.Generator], Tensor],
        captions: Sequence[str | MediaError],
        seed: int,
        held_out: Sequence[int] | None = None,
    ):
        self._codes, self._captions = codes, captions
        self.draw = Draw(self._read, len(captions), seed, held_out)

    def __call__(self, number: int, count: int) -> Pictures:
        return self.draw(number, count)

    def _read(self, index: int, generator: torch.Generator) -> tuple[Tensor, str]:
        caption = self._captions[index]
        if isinstance(caption, MediaError):
            raise MediaError(caption.name, caption.reason)
        return self._codes(index, generator), caption

    def captions(self) -> Iterable[str]:
        for index, caption in enumerate(self._captions):
            if isinstance(caption, MediaError):
                self.draw.skip(index, caption)
            else:
                yield caption


class CaptionedShards:
    """The shards of one modality in `folder`, and the texts that were tokenized beside its files.

    Raises:
        ValueError: no such shards there, they are of another tokenizer, or no file has a caption.
    """

    def __init__(self, folder: Path, modality: str, tokenizer: PictureTokenizer | FramesTokenizer):
        readers = {reader.manifest["modality"]: reader for reader in map(ShardReader, shard_folders(folder))}
        if modality not in readers:
            raise ValueError(
                f"{folder}: must hold shards of modality {modality}, got {', '.join(readers)}; name others"
            )
        self.folder, self.media, self._texts = folder, readers[modality], readers.get("text")
        _refuse_others(self.media, tokenizer, "give its tokenizer to the model, or tokenize the files with the model's")
        self._examples = TokenExamples(self.media, self._texts)
        if not any(map(self._examples.caption_content, range(len(self._examples)))):
            raise ValueError(
                f"{folder}: no {modality} has a caption there; put NAME.txt beside each NAME that was tokenized, "
                "and tokenize the same folder with --modality text into the same shards"
            )

    def fitting(self, fits: Callable[[str], bool], wanted: str) -> list[int]:
        """The examples whose content `fits`; how many others there are is told in one line.

        Raises:
            ValueError: there is none.
        """
        count = len(self._examples)
        fitting = [index for index in range(count) if fits(self.content(index))]
        if not fitting:
            raise ValueError(f"{self.folder}: must hold {wanted}, and none of {count:,} files does; tokenize them so")
        if left := count - len(fitting):
            log.warning("%s: left out %s of %s files: not %s", self.folder, f"{left:,}", f"{count:,}", wanted)
        return fitting

    def content(self, index: int) -> str:
        return self._examples.content(index)

    def captions(self, indices: Sequence[int]) -> list[str | MediaError]:
        """Of each example what was written beside it, "" if nothing was, or why it cannot be read.

        Raises:
            ValueError: the tokenizer of the texts is not found, or is another than it was; or a shard is damaged.
        """
        assert self._texts is not None
        tokenizer = open_text_tokenizer(self._texts.manifest["tokenizer"])
        _refuse_others(self._texts, tokenizer, "put back the one that it was")
        contents = [self._examples.caption_content(index) for index in indices]
        ids = dict(self._texts.several(filter(None, contents)))
        return [
            _text(ids[content], tokenizer, f"caption of {self._examples.names[index]}") if content else ""
            for index, content in zip(indices, contents, strict=True)
        ]


def _text(ids: Tensor, tokenizer: TextTokenizer, name: str) -> str | MediaError:
    if len(ids) > MAX_TEXT_BYTES:  # a token is a byte or more
        return MediaError(name, f"{len(ids):,} tokens are more than {MAX_TEXT_BYTES:,}")
    try:
        return tokenizer.decode_bytes(ids.tolist()).decode("utf-8-sig").strip()
    except UnicodeDecodeError as error:
        return MediaError(name, f"not UTF-8 ({error.reason} at byte {error.start})")


class _Tokenizer(Protocol):
    @property
    def vocab_size(self) -> int: ...
    @property
    def fingerprint(self) -> str: ...


def _refuse_others(reader: ShardReader, tokenizer: _Tokenizer, remedy: str) -> None:
    """Ids under another fingerprint would be learned without an error, and mean nothing."""
    made, ours = reader.manifest["fingerprint"], tokenizer.fingerprint
    if made != ours:
        raise ValueError(
            f"{reader.folder}: these ids are of tokenizer {reader.manifest['tokenizer'] or 'without a name'} "
            f"({made[:12]}), and the one in use is another ({ours[:12]}); {remedy}"
        )
    if reader.manifest["vocab_size"] != tokenizer.vocab_size:  # the manifest of a stranger
        raise ValueError(
            f"{reader.folder}: its ids must be below {tokenizer.vocab_size}, as its tokenizer's are, and the manifest "
            f"says {reader.manifest['vocab_size']}; tokenize the files again"
        )


def open_shards(folder: Path, size: int, seed: int, tokenizer: PictureTokenizer) -> ShardSource:
    """The pictures of a folder of shards that have the codes of squares of `size` pixels; they are held in memory.

    Raises:
        ValueError: as `CaptionedShards`; or there are no such pictures.
    """
    shards, grid = CaptionedShards(folder, "image", tokenizer), grid_of(size, tokenizer.config.stride)
    wanted = f"pictures of {grid[0]} x {grid[1]} codes (--size {size})"
    indices = shards.fitting(lambda content: shards.media.shape(content) == grid, wanted)
    contents = [shards.content(index) for index in indices]
    ids = {content: ids.int() for content, ids in shards.media.several(contents)}

    def codes(index: int, generator: torch.Generator) -> Tensor:
        return ids[contents[index]].long()

    return ShardSource(codes, shards.captions(indices), seed, held_out_files(len(indices)))


def open_clip_shards(
    folder: Path, num_frames: int, size: int, rate: float, seed: int, tokenizer: PictureTokenizer
) -> ShardSource:
    """Pieces of clips of a folder of shards: `num_frames` frames from a random moment on, squares of `size` pixels.

    Raises:
        ValueError: as `CaptionedShards`; or no clip has as many frames, at this size and `rate` in frames per second.
    """
    shards, grid = CaptionedShards(folder, "video", FramesTokenizer(tokenizer)), grid_of(size, tokenizer.config.stride)
    media = shards.media

    def fits(content: str) -> bool:
        shape = media.shape(content)
        return shape[1:] == grid and shape[0] >= num_frames and media.media(content).get("fps") == rate

    wanted = f"clips of {num_frames} frames or more of {grid[0]} x {grid[1]} codes (--size {size} --fps {rate:g})"
    indices = shards.fitting(fits, wanted)

    def codes(index: int, generator: torch.Generator) -> Tensor:
        content = shards.content(indices[index])
        start = int(torch.randint(media.shape(content)[0] - num_frames + 1, (), generator=generator))
        return media.part(content, start, start + num_frames)

    return ShardSource(codes, shards.captions(indices), seed)


def open_training_source(specs: Sequence[str], size: int, seed: int, tokenizer: PictureTokenizer) -> MixedSource:
    """What the transformer learns pictures from: as `open_source` of whole pictures, and folders of shards.

    Raises:
        ValueError: as `open_source` and `open_shards`.
    """
    names, shares = parse_shares(specs)
    sources = (
        open_shards(Path(name), size, own, tokenizer) if _is_shards(name) else source_of(name, size, own, whole)
        for name, own in zip(names, seeds_of(seed, len(names)), strict=True)
    )
    return MixedSource(tuple(sources), shares)


def open_training_clips(
    specs: Sequence[str], num_frames: int, size: int, rate: float, seed: int, tokenizer: PictureTokenizer
) -> MixedSource:
    """What the transformer learns clips from: as `open_clip_source`, and folders of shards.

    Raises:
        ValueError: as `open_clip_source` and `open_clip_shards`.
    """
    names, shares = parse_shares(specs)
    sources = (
        open_clip_shards(Path(name), num_frames, size, rate, own, tokenizer)
        if _is_shards(name)
        else clip_source_of(name, num_frames, size, rate, own)
        for name, own in zip(names, seeds_of(seed, len(names)), strict=True)
    )
    return MixedSource(tuple(sources), shares)


def _is_shards(name: str) -> bool:
    return name != "scenes" and holds_shards(name)

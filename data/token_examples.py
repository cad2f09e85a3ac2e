"""Token shards as examples to train on: the ids of a medium, and of its caption where that was tokenized beside it.

`cat.txt` is the caption of `cat.png`, and `deep/dog.txt` of `deep/dog.mp4`, so one run of tokenize over a folder gives
pairs. Made for `Loader`: a worker process opens a shard when it needs it and holds nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, overload

from torch import Tensor

from .shard_reader import ShardReader


@dataclass(frozen=True)
class TokenExample:
    name: str
    ids: Tensor  # int64: (h, w), (t, h, w) or (L,)
    media: dict[str, Any]  # what the shards note: size, rate, length
    caption: Tensor | None  # int64 (L,), in the ids of the text tokenizer


class TokenExamples(Sequence[TokenExample]):
    """One example for every file of `media`, in the order of their names; `captions` are shards of texts.

    Reading an example raises a ValueError if its shard is missing or damaged.
    """

    def __init__(self, media: ShardReader, captions: ShardReader | None = None):
        self.media, self.captions = media, captions
        self.names = sorted(media.files)
        texts = sorted(captions.files, key=lambda name: (name.endswith(".txt"), name)) if captions else []
        self._caption_of = {_stem(name): captions.files[name] for name in texts} if captions else {}  # .txt before .md

    def __len__(self) -> int:
        return len(self.names)

    @overload
    def __getitem__(self, index: int) -> TokenExample: ...
    @overload
    def __getitem__(self, index: slice) -> list[TokenExample]: ...
    def __getitem__(self, index: int | slice) -> TokenExample | list[TokenExample]:
        if isinstance(index, slice):
            return [self[number] for number in range(len(self))[index]]
        content, caption = self.content(index), self.caption_content(index)
        text = self.captions.ids(caption) if self.captions and caption else None
        return TokenExample(self.names[index], self.media.ids(content), self.media.media(content), text)

    def content(self, index: int) -> str:
        """By which `media` knows an example."""
        return self.media.files[self.names[index]]

    def caption_content(self, index: int) -> str | None:
        """By which `captions` knows what was written beside it."""
        return self._caption_of.get(_stem(self.names[index]))


def _stem(name: str) -> PurePosixPath:
    return PurePosixPath(name).with_suffix("")

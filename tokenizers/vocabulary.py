"""One id space for everything: text, special tokens, and one contiguous range per modality and codebook.

Shared ids are what the transformer's embedding table counts. Text comes first and keeps its own ids; then the special
tokens; then the codes, each codebook's local id shifted by where its range starts.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from ..data.files import read_json, write_json

MEDIA = ("image", "video", "audio")


@dataclass(frozen=True)
class Vocabulary:
    text_size: int
    codebooks: Mapping[str, tuple[int, ...]]  # modality -> size of each of its codebooks

    def __post_init__(self) -> None:
        unknown = set(self.codebooks) - set(MEDIA)
        if unknown:
            raise ValueError(f"modalities are {', '.join(MEDIA)}, got {sorted(unknown)}")
        if self.text_size < 1 or any(size < 1 for sizes in self.codebooks.values() for size in sizes):
            raise ValueError(f"every range must hold an id, got text {self.text_size} and {dict(self.codebooks)}")

    @property
    def modalities(self) -> tuple[str, ...]:
        return tuple(name for name in MEDIA if name in self.codebooks)

    @property
    def specials(self) -> tuple[str, ...]:
        """Names of the special tokens in the order of their ids. Of the pairs no "end" is read: see sequence.py."""
        pairs = (f"{edge}_{name}" for name in self.modalities for edge in ("begin", "end"))
        return ("begin", "end", "mask", *pairs)

    def special(self, name: str) -> int:
        """Shared id of a special token: "begin", "end", "mask", "begin_image", "end_image", ..."""
        return self.text_size + self.specials.index(name)

    def range(self, modality: str, codebook: int = 0) -> range:
        """Shared ids of text ("text") or of one codebook of a modality.

        Raises:
            ValueError: the vocabulary has no such range.
        """
        if modality == "text":
            return range(self.text_size)
        if modality not in self.codebooks or not 0 <= codebook < len(self.codebooks[modality]):
            raise ValueError(f"the vocabulary has {dict(self.codebooks)}, got {modality!r} codebook {codebook}")
        start = self.text_size + len(self.specials)
        for name in self.modalities:
            for number, size in enumerate(self.codebooks[name]):
                if (name, number) == (modality, codebook):
                    return range(start, start + size)
                start += size
        raise AssertionError("unreachable")

    def span(self, modality: str) -> slice:
        """Where the rows of all codebooks of a modality lie in a table of all ids."""
        return slice(self.range(modality).start, self.range(modality, len(self.codebooks[modality]) - 1).stop)

    @property
    def size(self) -> int:
        return self.text_size + len(self.specials) + sum(sum(sizes) for sizes in self.codebooks.values())

    def to_shared(self, ids: Tensor, modality: str, codebook: int = 0) -> Tensor:
        """Local ids of a range -> shared ids, same shape.

        Raises:
            ValueError: an id lies outside its codebook.
        """
        span = self.range(modality, codebook)
        if ids.numel() and not 0 <= int(ids.min()) <= int(ids.max()) < len(span):
            raise ValueError(f"{modality} ids must lie in [0, {len(span)}), got {int(ids.min())} to {int(ids.max())}")
        return ids + span.start

    def to_local(self, ids: Tensor, modality: str, codebook: int = 0) -> Tensor:
        """`to_shared` undone; refuses ids of another range."""
        span = self.range(modality, codebook)
        if ids.numel() and not span.start <= int(ids.min()) <= int(ids.max()) < span.stop:
            raise ValueError(
                f"{modality} ids are {span.start} to {span.stop - 1}, got {int(ids.min())} to {int(ids.max())}"
            )
        return ids - span.start

    def save(self, path: Path) -> None:
        saved = {"text_size": self.text_size, "codebooks": dict(self.codebooks)}
        write_json(path, saved)

    @classmethod
    def load(cls, path: Path) -> "Vocabulary":
        """`save` undone.

        Raises:
            ValueError: the file is not a vocabulary.
        """
        try:
            saved = read_json(path)
            codebooks = {name: tuple(map(int, sizes)) for name, sizes in saved["codebooks"].items()}
            return cls(int(saved["text_size"]), codebooks)
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
            raise ValueError(f"{path} is not a vocabulary ({error!r}); save it again") from error

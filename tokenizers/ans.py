"""Symbols of known probability <-> bytes, at little more than their entropy: range asymmetric numeral systems.

rANS (arXiv:1311.2540): one number x holds all symbols so far. A symbol that takes the slots [start, start + size) of
2^PRECISION turns x into the number whose remainder falls among them; what was coded last comes out first, so the
encoder goes from the last symbol to the first. Words of 32 bits leave x, or come back, so that it stays in
[2^32, 2^64). All of it is arithmetic of whole numbers: the bytes are the same everywhere.
"""

PRECISION = 20  # bits of a probability
LOWEST = 1 << 32  # x to begin with: where the decoder must end
_WORD = LOWEST - 1


class Encoder:
    """Takes symbols from the last to the first: 0 <= start and 1 <= size, start + size <= 2^PRECISION."""

    def __init__(self) -> None:
        self.x = LOWEST
        self.words: list[int] = []

    def put(self, start: int, size: int) -> None:
        if self.x >= size << 64 - PRECISION:
            self.words.append(self.x & _WORD)
            self.x >>= 32
        self.x = (self.x // size << PRECISION) + self.x % size + start

    def finish(self) -> bytes:
        """All that was put, in words of 4 bytes, the least first."""
        words = [self.x >> 32, self.x & _WORD, *reversed(self.words)]
        return b"".join(word.to_bytes(4, "little") for word in words)


class Decoder:
    """Gives the symbols from the first to the last: `slot` says where x falls, `take` reads what was there.

    Raises:
        ValueError: the bytes are too few, or were not those of whole words.
    """

    def __init__(self, data: bytes):
        if len(data) < 8 or len(data) % 4:
            raise ValueError(f"coded symbols take 8 bytes or more, in words of 4, got {len(data)}; the data is cut off")
        self.words = [int.from_bytes(data[at : at + 4], "little") for at in range(0, len(data), 4)]
        self.x = self.words[0] << 32 | self.words[1]
        self.read = 2

    def slot(self) -> int:
        """Where in [0, 2^PRECISION) the next symbol is."""
        return self.x & ((1 << PRECISION) - 1)

    def take(self, start: int, size: int) -> None:
        """The symbol that was there is read: it has [start, start + size)."""
        self.x = size * (self.x >> PRECISION) + self.slot() - start
        if self.x < LOWEST:
            if self.read == len(self.words):
                raise ValueError("coded symbols end too early; the data is cut off or damaged")
            self.x = self.x << 32 | self.words[self.read]
            self.read += 1

    def finish(self) -> None:
        """All symbols were read.

        Raises:
            ValueError: and something is left, so these were not the symbols.
        """
        if self.x != LOWEST or self.read != len(self.words):
            raise ValueError("coded symbols must end where the data ends; it is damaged, or was coded by another model")

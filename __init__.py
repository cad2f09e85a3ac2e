"""Tokenloom: tokenizers for your own media, one transformer, three decoders.

The public names are loaded on first use: `import tokenloom` costs nothing, and `tokenloom --help` waits for no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .tokenizers.image import ImageTokenizer

__version__ = "0.1.0"

# name -> the module that defines it; the imports above tell type checkers and editors the same.
_HOMES = {
    "ImageTokenizer": "tokenizers.image",
}

__all__ = ["ImageTokenizer", "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'tokenloom' has no attribute {name!r}; it has {', '.join(_HOMES)}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

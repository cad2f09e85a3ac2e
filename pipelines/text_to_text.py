"""TextToTextPipeline: a prompt in, what follows it out, by the shared transformer trained on text alone."""

from pathlib import Path
from typing import Self

import torch

from ..data.files import read_json, write_json
from ..models.next_token import NextTokenTransformer
from ..models.transformer import SharedTransformer
from ..tokenizers.text import TextTokenizer
from .language_model import LanguageModel

INDEX = "text_model.json"  # window and fingerprint, beside the folders of the parts
MAX_WINDOW = 1 << 16  # tokens; attention takes memory by its square


class TextToTextPipeline(LanguageModel):
    """A LanguageModel that is kept on disk: `window` is the number of tokens it sees at once, as it was trained."""

    model: NextTokenTransformer

    def __init__(self, transformer: SharedTransformer, text_tokenizer: TextTokenizer, *, window: int):
        if window > MAX_WINDOW:
            raise ValueError(f"a window must have at most {MAX_WINDOW} tokens, got {window}; take fewer")
        super().__init__(
            text_tokenizer, NextTokenTransformer(transformer, window=window, num_tokens=text_tokenizer.vocab_size)
        )

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> Self:
        """Load a folder that `save_pretrained` wrote.

        Raises:
            ValueError: a part is missing or broken, or the tokenizer is not that of the transformer.
        """
        folder = Path(folder)
        if not (folder / INDEX).is_file():
            raise ValueError(f"a text model is a folder with {INDEX}, and {folder} is none; train one with train-text")
        saved = read_json(folder / INDEX)
        try:
            window, fingerprint = int(saved["window"]), str(saved["text_tokenizer"])
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{folder / INDEX} is broken ({type(error).__name__}: {error}); save it again") from error
        transformer = SharedTransformer.from_pretrained(folder / "transformer")
        pipeline = cls(transformer, TextTokenizer.from_pretrained(folder / "text_tokenizer"), window=window)
        if pipeline.tokenizer.fingerprint != fingerprint:
            raise ValueError(f"the text tokenizer in {folder} is not the one this model was trained with; restore it")
        return pipeline

    def save_pretrained(self, folder: str | Path) -> None:
        folder = Path(folder)
        self.transformer.save_pretrained(folder / "transformer")
        self.tokenizer.save_pretrained(folder / "text_tokenizer")
        saved = {"window": self.model.window, "text_tokenizer": self.tokenizer.fingerprint}
        write_json(folder / INDEX, saved)

    __call__ = LanguageModel.continue_text  # as the other pipelines are called

    @property
    def transformer(self) -> SharedTransformer:
        return self.model.model

    def to(self, device: str | torch.device) -> Self:
        self.transformer.to(device)
        return self

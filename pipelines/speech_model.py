"""The parts of a model of speech, loaded, saved and joined: transformer, sound tokenizer, text tokenizer, voices.

B sounds, S samples, t steps, K codebooks. The transformer may take fewer codebooks than the tokenizer has: the first
ones are a code of their own, at a lower bit rate.
"""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Self

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ..data.files import read_json, write_json
from ..models.attention import KVCache
from ..models.sound import hear
from ..models.sound_objectives import Sounds
from ..models.transformer import SharedTransformer
from ..tokenizers.audio import AudioTokenizer
from ..tokenizers.mulaw import MuLawTokenizer
from ..tokenizers.pretrained import SHIPPED
from ..tokenizers.sequence import prompt_batch, text_positions
from ..tokenizers.text import TextTokenizer
from ..tokenizers.units import UnitsTokenizer
from .open_tokenizer import UNTRAINED_SOUND, open_audio_tokenizer
from .text_to_image import check_prompt

INDEX = "speech.json"  # voices, words and the sound tokenizer, beside the folders of the parts
MAX_TEXT_TOKENS = 64
ANSWER = "answer"  # the prompt before a sound that is to be answered

SoundTokenizer = AudioTokenizer | UnitsTokenizer | MuLawTokenizer


def sound_levels(tokenizer: SoundTokenizer) -> tuple[tuple[int, ...], ...]:
    """The cells of its codes, K x D, as `ResidualQuantizer` takes them; what is no residual FSQ has one line of ids.

    On it the levels of mu-law lie in their order, which is that of their samples. Units have none, so `diffusion`,
    which lives on the line, learns nothing of them.
    """
    return tokenizer.config.levels if isinstance(tokenizer, AudioTokenizer) else ((tokenizer.vocab_size,),)


class SpeechModel:
    def __init__(
        self,
        transformer: SharedTransformer,
        audio_tokenizer: SoundTokenizer,
        text_tokenizer: TextTokenizer,
        *,
        voices: Iterable[str] = (),
        lexicon: Iterable[str] = (),
        tasks: Iterable[str] = (),
        sound_codes: str = "",
    ):
        """`voices` are the speakers it learned, `tasks` what it was trained for: "speak", "write", "answer".

        `sound_codes` is the name of a sound tokenizer that ships, or needs no training; it is not saved with the model.
        """
        self.transformer = transformer.eval()
        self.audio_tokenizer = audio_tokenizer
        if isinstance(audio_tokenizer, nn.Module):
            audio_tokenizer.eval()
        self.text_tokenizer = text_tokenizer
        self.voices, self.lexicon, self.tasks = sorted(voices), frozenset(lexicon), sorted(tasks)
        self.sound_codes = sound_codes
        levels, known = transformer.config.sound_levels, sound_levels(audio_tokenizer)
        if not levels or levels != known[: len(levels)]:
            raise ValueError(
                f"the sound tokenizer has levels {known} and the transformer was built for {levels}; take the "
                "tokenizer it was trained with"
            )
        if text_tokenizer.vocab_size > transformer.config.text_vocab_size:
            raise ValueError(
                f"the text tokenizer has {text_tokenizer.vocab_size} tokens and the transformer was built for "
                f"{transformer.config.text_vocab_size}; take the tokenizer it was trained with"
            )

    @classmethod
    def from_pretrained(cls, name_or_path: str | Path) -> Self:
        """Load a shipped name ("tokenloom-speech") or a folder that `save_pretrained` wrote.

        Raises:
            ValueError: not found, a part is missing or broken, or the tokenizers are not those of the transformer.
        """
        folder = next((f for f in (Path(name_or_path), SHIPPED / name_or_path) if (f / INDEX).is_file()), None)
        if folder is None:
            shipped = ", ".join(sorted(index.parent.name for index in SHIPPED.glob(f"*/{INDEX}"))) or "none"
            raise ValueError(
                f"a model of speech is a folder with {INDEX} or shipped ({shipped}), and {str(name_or_path)!r} is "
                "neither; train one (tokenloom train-speech), or name its folder"
            )
        saved = read_json(folder / INDEX)
        try:
            fingerprints, sound_codes = dict(saved["fingerprints"]), str(saved["audio_tokenizer"])
            known = {name: list(map(str, saved[name])) for name in ("voices", "lexicon", "tasks")}
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{folder / INDEX} is broken ({type(error).__name__}: {error}); save it again") from error
        sounds: str | Path = folder / "audio_tokenizer"
        if sound_codes:  # a name, never a path
            sounds = sound_codes if sound_codes in UNTRAINED_SOUND else SHIPPED / Path(sound_codes).name
        model = cls(
            SharedTransformer.from_pretrained(folder / "transformer"),
            open_audio_tokenizer(sounds),
            TextTokenizer.from_pretrained(folder / "text_tokenizer"),
            sound_codes=sound_codes,
            **known,
        )
        for name, fingerprint in model.fingerprints.items():
            if fingerprint != fingerprints.get(name):
                raise ValueError(f"the {name} of {folder} is not the one this model was trained with; restore it")
        return model

    def save_pretrained(self, folder: str | Path) -> None:
        folder = Path(folder)
        self.transformer.save_pretrained(folder / "transformer")
        self.text_tokenizer.save_pretrained(folder / "text_tokenizer")
        if not self.sound_codes:
            if isinstance(self.audio_tokenizer, MuLawTokenizer):
                raise ValueError(f"mu-law is known by its name alone; give sound_codes, {', '.join(UNTRAINED_SOUND)}")
            self.audio_tokenizer.save_pretrained(folder / "audio_tokenizer")
        saved = {
            "fingerprints": self.fingerprints,
            "audio_tokenizer": self.sound_codes,
            "tasks": self.tasks,
            "voices": self.voices,
            "lexicon": sorted(self.lexicon),
        }
        write_json(folder / INDEX, saved)

    @property
    def fingerprints(self) -> dict[str, str]:
        return {name: getattr(self, name).fingerprint for name in ("audio_tokenizer", "text_tokenizer")}

    def to(self, device: str | torch.device) -> Self:
        self.transformer.to(device)
        if isinstance(self.audio_tokenizer, nn.Module):
            self.audio_tokenizer.to(device)
        return self

    @property
    def device(self) -> torch.device:
        return self.transformer.embedding.weight.device

    @property
    def steps_per_second(self) -> float:
        """Steps of sound, of K codes each."""
        rate, grid = self.audio_tokenizer.sample_rate, self.audio_tokenizer.grid
        return (grid((11 * rate,))[1] - grid((rate,))[1]) / 10

    @property
    def most_samples(self) -> int:
        """Of the longest sound that it knows, at the rate of its tokenizer."""
        longest, grid = self.transformer.config.sound_steps, self.audio_tokenizer.grid
        above = range(1, round((longest + 1) * self.audio_tokenizer.sample_rate / self.steps_per_second))
        return bisect_right(above, longest, key=lambda samples: grid((samples,))[1])

    @property
    def max_seconds(self) -> float:
        """The same in seconds."""
        return self.most_samples / self.audio_tokenizer.sample_rate

    def tokens(self, text: object) -> list[int]:
        """Token ids of what is said.

        Raises:
            ValueError: it is not text, empty, or longer than the model learned to say.
        """
        said = check_prompt(text)
        tokens = self.text_tokenizer.encode(said) if len(said) <= 100 * MAX_TEXT_TOKENS else [0] * len(said)
        if len(tokens) > MAX_TEXT_TOKENS:
            raise ValueError(f"a text may have {MAX_TEXT_TOKENS} tokens, got {len(tokens)}; say it in parts")
        return tokens

    def check_task(self, task: str) -> None:
        """Refuse what the model was not trained for.

        Raises:
            ValueError: `task` is not among its tasks.
        """
        if task not in self.tasks:
            raise ValueError(f"this model learned to {', '.join(self.tasks)}, not to {task}; train one that does")

    def prefilled(self, prompts: Sequence[Sequence[int]], heard: Sounds | None = None) -> KVCache:
        """Keys and values of prompts as text tokens, and of a sound after each."""
        ids, real = prompt_batch(prompts, self.transformer.vocabulary)
        ids, real = ids.to(self.device), real.to(self.device)
        past = self.transformer.prefill(ids, text_positions(ids.shape[1], device=self.device), real)
        return past if heard is None else hear(self.transformer, heard.codes, heard.real, past)

    def encode(self, sounds: Sequence[Tensor]) -> Sounds:
        """Sounds float32 (1, S) in [-1, 1] at the tokenizer's rate, of any lengths each -> their codes.

        Raises:
            ValueError: a sound has no sample, another shape, or more steps than the transformer knows.
        """
        if any(sound.ndim != 2 or sound.shape[0] != 1 or not sound.shape[1] for sound in sounds):
            raise ValueError(f"sounds must be (1, S), got {[tuple(sound.shape) for sound in sounds]}")
        lengths = torch.tensor([self.audio_tokenizer.grid((sound.shape[1],))[1] for sound in sounds])
        longest = self.transformer.config.sound_steps
        if int(lengths.max()) > longest:
            raise ValueError(
                f"a sound may have {longest} steps, {self.max_seconds:.4g} s, got {int(lengths.max())}; cut it"
            )
        samples = max(sound.shape[1] for sound in sounds)
        # Padded as the tokenizer does it at the end of a sound, so that its codes do not depend on its batch.
        padded = [F.pad(sound, (0, samples - sound.shape[1]), mode="replicate") for sound in sounds]
        batch = torch.stack(padded).to(self.device)
        books = len(self.transformer.config.sound_levels)
        codes = rearrange(self.audio_tokenizer.encode(batch)[:, :books], "B K t -> B t K")
        real = (torch.arange(codes.shape[1]) < lengths[:, None]).to(self.device)
        return Sounds(codes.masked_fill(~real.unsqueeze(-1), 0), real)

    def decode(self, sounds: Sounds) -> list[Tensor]:
        """Codes -> sounds float32 (1, S) in [-1, 1], each as long as its own steps."""
        decoded = []
        for codes, steps in zip(sounds.codes, sounds.real.sum(1).tolist(), strict=True):
            ids = rearrange(codes[:steps], "t K -> 1 K t")
            decoded.append(self.audio_tokenizer.decode(ids)[0].cpu())
        return decoded

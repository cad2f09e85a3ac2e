"""Who judges spoken digits: a recognizer that has never heard the speaker whom it judges.

For each speaker one `DigitRecognizer` learns from the recordings of all others, so what it understands of the speaker's
voice, real or generated, is what a stranger would. Few voices stand for more by variation: pitch and speed together,
speed alone, the bands that a voice's throat makes louder (vocal tract length perturbation, Jaitly & Hinton 2013), the
microphone, noise, silence around, and masks over time and bands (SpecAugment, arXiv:1904.08779).

The figure is digits recognized: 1 - edit distance / digits, over all strings together.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ..data.loader import generator_of
from ..data.resample import resample
from ..models.digit_recognizer import SAMPLE_RATE, DigitRecognizer, DigitRecognizerConfig, ctc_loss
from ..models.schedules import cosine
from .sound_sources import stretched
from .spoken_digits import DigitStrings, Utterance, text_of
from .train_loop import LoopConfig, train
from .training_cost import counted, work

MAX_SECONDS = 10.0  # of a sound to be judged
SPEEDS = (0.82, 1.22)  # of training sounds, with the pitch
TEMPOS = (0.85, 1.2)  # besides, without the pitch
TRACTS = (0.88, 1.14)  # by which the bands of a voice are moved
SILENCE = 0.3  # seconds at most, before and behind
NOISE_DB = (8.0, 50.0)  # by which noise lies below the sound
MICROPHONE = 0.35  # standard deviation of its colour, in units of log-mel: 7 dB
COLOUR_POINTS = 5  # bands at which it is drawn; between them it is straight
TIME_MASK, BAND_MASK, NUM_MASKS = 10, 6, 2  # frames and bands at most; of each kind


@dataclass(frozen=True, kw_only=True)
class JudgeRecipe:
    steps: int = 1500
    batch_size: int = 32
    max_digits: int = 4
    learning_rate: float = 3e-3
    weight_decay: float = 0.05
    ema_decay: float = 0.99
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.steps, self.batch_size, self.max_digits) < 1 or not 0 < self.learning_rate < 1:
            raise ValueError(f"steps, batch_size, max_digits and learning_rate must be positive, got {self}")


def uniform(bounds: tuple[float, float], count: int, generator: torch.Generator) -> Tensor:
    """Float32 (count,) between two bounds."""
    return bounds[0] + (bounds[1] - bounds[0]) * torch.rand(count, generator=generator)


def varied_sounds(utterances: Sequence[Utterance], generator: torch.Generator) -> Tensor:
    """Sounds at other speeds and pitches, each somewhere in silence, under noise: float32 (B, 1, S) at one rate."""
    speeds = uniform(SPEEDS, len(utterances), generator).tolist()
    sounds = [
        stretched(said.sound, round(said.sound.shape[1] / speed))
        for said, speed in zip(utterances, speeds, strict=True)
    ]
    before = [int(share * SAMPLE_RATE) for share in uniform((0.0, SILENCE), len(sounds), generator).tolist()]
    length = max(first + sound.shape[1] for first, sound in zip(before, sounds, strict=True))
    length += int(SILENCE * SAMPLE_RATE * float(torch.rand((), generator=generator)))
    batch = torch.stack(
        [F.pad(sound, (first, length - first - sound.shape[1])) for first, sound in zip(before, sounds, strict=True)]
    )
    below = 10 ** (-uniform(NOISE_DB, len(batch), generator) / 20)
    levels = torch.stack([sound.square().mean().sqrt() for sound in sounds])
    colour = torch.rand(len(batch), 1, 1, generator=generator)  # 0 white, 1 as dull as a sum of two neighbours
    noise = torch.randn(len(batch), 1, length + 1, generator=generator)
    noise = noise[:, :, 1:] + colour * noise[:, :, :-1]
    return batch + rearrange(below * levels, "B -> B 1 1") * noise


def varied_log_mel(log_mel: Tensor, generator: torch.Generator) -> Tensor:
    """Log-mel (B, M, n), 0 in silence -> of other tempos, throats and microphones, partly masked, (B, M, n')."""
    count, bands, frames = log_mel.shape
    tempos, tracts = uniform(TEMPOS, count, generator), uniform(TRACTS, count, generator)
    longest = int(frames / float(tempos.min()))
    time = tempos[:, None] * (torch.arange(longest) + 0.5) * 2 / frames - 1  # of each frame in [-1, 1], and beyond
    band = tracts[:, None] * (torch.arange(bands) + 0.5) * 2 / bands - 1
    grid = torch.stack(
        [time[:, None, :].expand(-1, bands, -1), band[:, :, None].expand(-1, -1, longest)], dim=-1
    )  # (B, M, n', 2)
    warped = F.grid_sample(log_mel[:, None], grid, align_corners=False)[:, 0]
    colour = MICROPHONE * torch.randn(count, 1, COLOUR_POINTS, generator=generator)
    colour = rearrange(F.interpolate(colour, bands, mode="linear", align_corners=True), "B 1 M -> B M 1")
    heard = torch.where(warped > 0, warped + colour, 0).clamp(min=0)
    for _ in range(NUM_MASKS):
        heard = heard * masked(longest, TIME_MASK, count, generator)[:, None, :]
        heard = heard * masked(bands, BAND_MASK, count, generator)[:, :, None]
    return heard


def masked(length: int, longest: int, count: int, generator: torch.Generator) -> Tensor:
    """Float32 (count, length) of ones, with zeros in one stretch of 0 to `longest` each."""
    start = (torch.rand(count, 1, generator=generator) * length).long()
    width = torch.randint(longest + 1, (count, 1), generator=generator)
    place = torch.arange(length)
    return 1 - ((place >= start) & (place < start + width)).float()


def plan(recognizer: DigitRecognizer, recipe: JudgeRecipe, sounds: Tensor, *, gigaflops: float = 50.0) -> str:
    """What is about to happen: parameters, arithmetic, memory, and hours at `gigaflops` a second.

    `sounds` (B, 1, S) are a batch, or two of it.
    """
    parameters = sum(p.numel() for p in recognizer.parameters())
    told = f"judge of spoken digits: {parameters / 1e6:.2f} M parameters\n"
    return told + work(recipe, counted(recognizer, (sounds,)), parameters, "sounds", gigaflops=gigaflops)


def train_judge(
    config: DigitRecognizerConfig,
    recipe: JudgeRecipe,
    source: DigitStrings,
    out: Path,
    *,
    resume: bool = False,
    say: Callable[[str], None] = print,
) -> DigitRecognizer:
    """Train on strings of `source`, which is to give them at 8 kHz and not augmented; checkpoints lie under `out`.

    Raises:
        TrainingError: see `train`.
    """
    torch.manual_seed(recipe.seed)  # weights; dropout is seeded by step
    recognizer = DigitRecognizer(config)
    usual = varied_sounds(source(0, max(2, recipe.batch_size)), generator_of(recipe.seed, 0, 1))
    say(plan(recognizer, recipe, usual))

    def loss(module: nn.Module, number: int) -> tuple[Tensor, dict[str, float]]:
        utterances = source(number, recipe.batch_size)
        generator = generator_of(recipe.seed, number, 1)
        torch.manual_seed(int(torch.randint(2**31, (), generator=generator)))
        model = cast(DigitRecognizer, module)
        log_mel = varied_log_mel(model.log_mel(varied_sounds(utterances, generator)), generator)
        return ctc_loss(model.classify(log_mel), [said.digits for said in utterances]), {}

    decayed = [p for p in recognizer.parameters() if p.ndim > 1]
    others = [p for p in recognizer.parameters() if p.ndim < 2]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": others, "weight_decay": 0.0}],
        lr=recipe.learning_rate,
    )
    loop = LoopConfig(
        steps=recipe.steps,
        schedule=cosine(recipe.steps, warmup=50),
        ema_decay=recipe.ema_decay,
        log_every=100,
        checkpoint_every=500,
    )
    state = {"config": asdict(config), "recipe": asdict(recipe), "speakers": list(source.speakers)}
    return cast(DigitRecognizer, train(recognizer, loss, [optimizer], loop, out, state=state, resume=resume, say=say))


def judge(recognizer: DigitRecognizer, sounds: Sequence[Tensor], sample_rate: int) -> list[str]:
    """What a recognizer understands of each sound (1, S) at `sample_rate` Hz, alone: "seven two nine".

    Raises:
        ValueError: a sound is not mono, empty, longer than `MAX_SECONDS` or not finite.
    """
    texts = []
    for sound in sounds:
        if sound.ndim != 2 or len(sound) != 1 or not 0 < sound.shape[1] <= MAX_SECONDS * sample_rate:
            raise ValueError(
                f"a sound must be (1, S), mono, up to {MAX_SECONDS:g} s long, got {tuple(sound.shape)} at "
                f"{sample_rate} Hz; cut it"
            )
        if not sound.isfinite().all():
            raise ValueError("a sound must hold finite numbers only; look at what made it")
        texts.append(text_of(recognizer.recognize(resample(sound, sample_rate, SAMPLE_RATE)[None])[0]))
    return texts


def edit_distance(one: Sequence[object], other: Sequence[object]) -> int:
    """Fewest insertions, deletions and substitutions between two strings (Levenshtein)."""
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        last, row[0] = row[0], i
        for j, b in enumerate(other, 1):
            last, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, last + (a != b))
    return row[-1]


def digits_recognized(heard: Sequence[str], said: Sequence[str]) -> float:
    """1 - edit distance / digits, over all strings together; less than 0 where far too many were heard.

    A word that is no digit counts as one that was misheard, or as one too many.
    """
    pairs = [(text.split(), truth.split()) for text, truth in zip(heard, said, strict=True)]
    total = sum(len(truth) for _, truth in pairs)
    if not total:
        raise ValueError("what was said must hold at least one digit")
    return 1 - sum(edit_distance(text, truth) for text, truth in pairs) / total

"""A sound tokenizer beside speech codecs: STOI, PESQ and SI-SDR at each bit rate, on the same sounds.

Opus (RFC 6716, libopus through PyAV) at 6 kb/s, the least that it goes to, in frames of 60 ms, the bits of its packets
counted; Codec2, a vocoder for radio, at its 3.2, 2.4 and 1.2 kb/s by the programs c2enc and c2dec (Debian package
codec2), for 8 kHz. Of the tokenizer no code is entropy-coded. What comes back is moved by the delay of its codec before
it is judged, since the scores want the two in step.

S samples at 16 kHz.
"""

import io
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..data.audio import read_audio
from ..data.resample import resample
from ..data.write_audio import to_int16
from ..models.audio_metrics import si_sdr
from ..tokenizers.audio import AudioTokenizer
from ..tokenizers.units import UnitsTokenizer
from ..tokenizers.vocoder import SAMPLE_RATE
from .speech_scores import speech_scores

OPUS_BITS_PER_SECOND = 6000
CODEC2_MODES = (3200, 2400, 1200)  # bits per second
CODEC2_RATE = 8000  # Hz
MAX_DELAY = 80  # ms by which what comes back may be late or early
SHORTEST = 0.4  # seconds that the scores need
TIMEOUT = 60  # seconds for a program

Codec = Callable[[Tensor], tuple[Tensor, float]]  # sound (1, 1, S) -> what comes back, and bits


@dataclass(frozen=True)
class SpeechRate:
    bits_per_second: float
    stoi: float  # nan without its library
    pesq: float
    si_sdr: float  # dB


def mean(rates: Sequence[SpeechRate]) -> SpeechRate:
    """The plain mean over sounds."""
    rows = [(rate.bits_per_second, rate.stoi, rate.pesq, rate.si_sdr) for rate in rates]
    return SpeechRate(*torch.tensor(rows, dtype=torch.float64).mean(0).tolist())


def delay(sound: Tensor, original: Tensor) -> int:
    """Samples by which `sound` (1, 1, S) lags behind `original`: by their loudness to a millisecond, then by the waves.

    Loudness first, since the phases of a vocoder are its own: a likeness of waves would find any period of the voice.
    """
    step = SAMPLE_RATE // 1000
    ours, theirs = (F.avg_pool1d(x.abs(), 10 * step, step).flatten() for x in (sound, original))
    coarse = step * _likeliest(ours - ours.mean(), theirs - theirs.mean(), range(-MAX_DELAY, MAX_DELAY + 1))
    return _likeliest(sound.flatten(), original.flatten(), range(coarse - step // 2, coarse + step // 2 + 1))


def _likeliest(one: Tensor, other: Tensor, lags: range) -> int:
    """The lag by which `one` (S,) is most like `other`: the largest inner product, of any sign."""
    length = min(len(one), len(other))
    found = [
        abs(float(one[max(0, lag) : length + min(0, lag)] @ other[max(0, -lag) : length - max(0, lag)]))
        for lag in lags
        if abs(lag) < length
    ]
    return [lag for lag in lags if abs(lag) < length][found.index(max(found))]


def judged(sound: Tensor, original: Tensor, bits: float) -> SpeechRate:
    """What `sound` is worth as `original`, both (1, 1, S) in [-1, 1]."""
    late = delay(sound, original)
    sound = F.pad(sound, (max(0, -late), 0))[:, :, max(0, late) :]
    length = min(sound.shape[2], original.shape[2])
    scores = speech_scores(sound[:, :, :length], original[:, :, :length], SAMPLE_RATE)
    nan = float("nan")
    return SpeechRate(
        bits * SAMPLE_RATE / original.shape[2],
        scores.get("stoi", nan),
        scores.get("pesq", nan),
        float(si_sdr(sound[:, :, :length], original[:, :, :length])),
    )


def opus(sound: Tensor) -> tuple[Tensor, float]:
    """A sound (1, 1, S) through Opus: what comes back, and bits of the packets."""
    import av

    file = io.BytesIO()
    with av.open(file, "w", format="ogg") as out:
        stream = out.add_stream("libopus", rate=SAMPLE_RATE, layout="mono")
        stream.bit_rate = OPUS_BITS_PER_SECOND
        stream.options = {"application": "voip", "frame_duration": "60"}
        frame = av.AudioFrame.from_ndarray(to_int16(sound[0]).numpy(), format="s16", layout="mono")
        frame.sample_rate = SAMPLE_RATE
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    with av.open(io.BytesIO(file.getvalue()), "r") as written:
        num_bytes = sum([packet.size for packet in written.demux(audio=0)])
    back = read_audio(file.getvalue(), sample_rate=SAMPLE_RATE, name="opus")
    return back[None], 8 * num_bytes


def codec2(mode: int) -> Codec | None:
    """Codec2 at `mode` bits per second; None where its programs are not installed."""
    encoder, decoder = shutil.which("c2enc"), shutil.which("c2dec")
    if encoder is None or decoder is None:
        return None

    def run(sound: Tensor) -> tuple[Tensor, float]:
        narrow = to_int16(resample(sound[0], SAMPLE_RATE, CODEC2_RATE)).numpy()
        with tempfile.TemporaryDirectory() as folder:
            speech, codes, back = (Path(folder, name) for name in ("speech.raw", "codes", "back.raw"))
            speech.write_bytes(narrow.astype("<i2").tobytes())
            for program, source, target in ((encoder, speech, codes), (decoder, codes, back)):
                subprocess.run([program, str(mode), source, target], check=True, capture_output=True, timeout=TIMEOUT)
            bits = 8 * codes.stat().st_size
            heard = torch.from_numpy(np.frombuffer(back.read_bytes(), "<i2").astype(np.float32) / 2**15)
        return resample(heard[None], CODEC2_RATE, SAMPLE_RATE).clamp(-1, 1)[None], bits

    return run


@torch.no_grad()
def compare_codecs(tokenizer: AudioTokenizer | UnitsTokenizer, sound: Tensor) -> dict[str, tuple[SpeechRate, Tensor]]:
    """Figures of each way for one sound (1, 1, S) in [-1, 1], and what each gives back: codecs that are there, and the
    tokenizer with each number of codebooks.

    Raises:
        ValueError: the sound is too short for figures.
    """
    if sound.shape[2] < SHORTEST * SAMPLE_RATE:
        raise ValueError(f"a sound must last at least {SHORTEST:g} s, got {sound.shape[2] / SAMPLE_RATE:.3f} s")
    ways: dict[str, tuple[SpeechRate, Tensor]] = {}
    codecs: dict[str, Codec | None] = {"opus": opus} | {f"codec2 {mode}": codec2(mode) for mode in CODEC2_MODES}
    for name, codec in codecs.items():
        if codec is not None:
            heard, bits = codec(sound)
            ways[name] = judged(heard, sound, bits), heard
    ids = tokenizer.encode(sound)
    for count in range(1, tokenizer.num_codebooks + 1):
        heard = tokenizer.decode(ids[:, :count], (sound.shape[2],))
        bits = tokenizer.bits_per_second(count) * sound.shape[2] / SAMPLE_RATE
        ways[f"{count} codebooks"] = judged(heard, sound, bits), heard
    return ways

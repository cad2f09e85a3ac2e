"""Laws of reading sound: any file in blocks of one size, the same bits however one asks; a bad file is one line."""

import io
import wave
from pathlib import Path

import av
import pytest
import torch

from tests.conftest import needs_packs
from tokenloom.data.audio import is_sound_only, open_audio, probe_audio, read_audio, read_blocks
from tokenloom.data.levels import LevelMeter, Levels
from tokenloom.data.media import MediaError
from tokenloom.data.resample import resample
from tokenloom.data.write_audio import write_audio


def noise(samples: int, channels: int = 1) -> torch.Tensor:
    """Numbers of 16 bits, so that wav and flac hold them exactly."""
    values = torch.randint(-(2**14), 2**14, (channels, samples), generator=torch.Generator().manual_seed(5))
    return values.float() / 2**15


def file_of(sound: torch.Tensor, rate: int, suffix: str, folder: Path) -> Path:
    write_audio(folder / f"sound{suffix}", sound, rate)
    return folder / f"sound{suffix}"


def wav_of(width: int, values: bytes, rate: int = 8_000, channels: int = 1) -> bytes:
    """By the standard library: `width` bytes a sample."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as out:
        out.setnchannels(channels)
        out.setsampwidth(width)
        out.setframerate(rate)
        out.writeframes(values)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("width", "values", "expected"),
    [
        (1, bytes([0, 64, 128, 255]), [-1, -0.5, 0, 127 / 128]),
        (2, b"\x00\x80\x00\xc0\x00\x00\xff\x7f", [-1, -0.5, 0, 32767 / 32768]),
        (3, b"\x00\x00\x80\x00\x00\xc0\x00\x00\x00\xff\xff\x7f", [-1, -0.5, 0, 1 - 2**-23]),
        (4, b"\x00\x00\x00\x80\x00\x00\x00\xc0\x00\x00\x00\x00\x00\x00\x00\x40", [-1, -0.5, 0, 0.5]),
    ],
)
def test_samples_of_every_width_have_full_scale_1(width, values, expected):
    assert read_audio(wav_of(width, values), sample_rate=None).tolist() == [expected]


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_what_is_lossless_comes_sample_by_sample(tmp_path, suffix, channels):
    sound = noise(30_000, channels)
    path = file_of(sound, 22_050, suffix, tmp_path)
    assert torch.equal(read_audio(path, sample_rate=None, mono=False), sound)
    assert torch.equal(read_audio(path.read_bytes(), sample_rate=22_050), sound.mean(dim=0, keepdim=True))
    with open(path, "rb") as file:
        assert torch.equal(read_audio(file, mono=False), resample(sound, 22_050, 16_000))
    with open_audio(path) as opened:
        assert (opened.sample_rate, opened.channels, opened.seconds) == (22_050, channels, 30_000 / 22_050)


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".mp3", ".ogg"])
@pytest.mark.parametrize("rate", [None, 16_000])
def test_a_part_is_the_same_bits_as_in_the_whole(tmp_path, suffix, rate):
    path = file_of(noise(60_000), 24_000, suffix, tmp_path)
    whole = read_audio(path, sample_rate=rate)
    rate = rate or probe_audio(path).sample_rate
    for start, stop in ((0.0, 0.01), (0.33, 1.7), (1.99, None), (2.0, 9.0)):
        blocks = list(read_blocks(path, sample_rate=rate, start=start, stop=stop, block=777))
        assert {block.shape[1] for block in blocks[:-1]} <= {777} and 0 < blocks[-1].shape[1] <= 777
        end = whole.shape[1] if stop is None else min(whole.shape[1], -int(-stop * rate))
        assert torch.equal(torch.cat(blocks, dim=1), whole[:, round(start * rate) : end])


def test_hours_are_read_a_little_at_a_time(tmp_path):
    """Between two blocks no more of the file is read than these blocks hold, and a seek reads nothing before it."""
    path = tmp_path / "hours.wav"
    header = wav_of(2, b"", rate=48_000)
    seconds, bytes_a_second = 2 * 3600, 2 * 48_000
    size = seconds * bytes_a_second
    with open(path, "wb") as file:
        file.write(header[:4] + (36 + size).to_bytes(4, "little") + header[8:40] + size.to_bytes(4, "little"))
        file.truncate(44 + size)  # a hole of silence

    class Counted(io.FileIO):
        num_read = 0

        def read(self, count=-1):
            data = super().read(count)
            self.num_read += len(data)
            return data

    with Counted(path) as file:
        blocks = read_blocks(file, start=3600, block=16_000)
        for number in range(1, 6):
            assert next(blocks).shape == (1, 16_000)
            assert file.num_read < number * bytes_a_second + 2**20  # to know the format, some of the beginning
        blocks.close()
    with pytest.raises(MediaError, match="longer than 2 s"):
        read_audio(path, limit_s=2)
    assert read_audio(path, start=7199.5, limit_s=2).shape == (1, 8_000)


def test_levels_tell_loudness_and_clipping(tmp_path):
    meter = LevelMeter()
    sine = torch.sin(torch.arange(48_000) * 2 * torch.pi / 48)[None]
    for chunk in (0.5 * sine).split(1000, dim=1):
        meter.push(chunk)
    assert meter.levels() == Levels(-6.02, -9.03, 0)
    assert str(meter.levels()) == "peak -6.0 dBFS, RMS -9.0 dBFS"
    meter = LevelMeter()
    path = file_of(2 * sine, 16_000, ".wav", tmp_path)
    for _ in read_blocks(path, meter=meter):
        pass
    at_the_edge = int((2 * sine.abs() >= 32766.5 / 32768).sum())
    assert meter.levels().peak_db == 0 and abs(meter.levels().clipped - at_the_edge) < 300  # the halves may round down
    assert LevelMeter().levels() == Levels(None, None, 0) and str(LevelMeter().levels()) == "silent"


BROKEN = {
    "empty": (b"", "the file is empty"),
    "text": (b"hello there, this is no sound\n" * 300, "no sound of a known format"),
    "picture": (b"\x89PNG\r\n\x1a\n" + bytes(500), "no sound of a known format"),
    "no samples": (wav_of(2, b""), "no sound can be decoded|no sound of a known format"),
    "slow": (wav_of(2, bytes(400), rate=100), "1 channels at 100 Hz"),
    "many": (wav_of(2, bytes(400), channels=9), "9 channels at 8,000 Hz"),
}


@pytest.mark.parametrize(("data", "told"), BROKEN.values(), ids=BROKEN)
def test_what_is_no_sound_is_one_line_that_names_it(tmp_path, data, told):
    path = tmp_path / "speech.mp3"
    path.write_bytes(data)
    with pytest.raises(MediaError, match=f"speech.mp3: ({told})") as caught:
        next(read_blocks(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg", ".mp3"])
def test_a_cut_is_refused_and_what_is_there_is_kept_if_asked(tmp_path, suffix):
    sound = noise(48_000)
    data = file_of(sound, 16_000, suffix, tmp_path).read_bytes()
    cut = data[: len(data) * 6 // 10]
    with pytest.raises(MediaError, match="cut off|damaged"):
        read_audio(cut)
    kept = read_audio(cut, keep_decodable=True)
    assert 0.3 * 48_000 < kept.shape[1] < 0.7 * 48_000
    if suffix in (".wav", ".flac"):
        assert torch.equal(kept, sound[:, : kept.shape[1]])


def test_damage_inside_a_flac_is_met_where_it_is(tmp_path):
    data = bytearray(file_of(noise(160_000), 16_000, ".flac", tmp_path).read_bytes())
    data[len(data) // 2] ^= 0x10
    blocks = read_blocks(bytes(data))
    assert next(blocks).shape == (1, 16_000)
    with pytest.raises(MediaError, match="damaged|cut off"):
        list(blocks)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"sample_rate": 0}, "sample_rate must be from 4,000"),
        ({"start": -1}, "start must be 0"),
        ({"start": float("nan")}, "start must be 0"),
        ({"start": 2, "stop": 2}, "stop more than start"),
        ({"block": 0}, "block must be at least 1"),
    ],
)
def test_options_out_of_range_are_refused_at_the_call(options, told):
    with pytest.raises(ValueError, match=told):
        read_blocks("nowhere.wav", **options)


def test_a_time_without_sound_is_an_error(tmp_path):
    for suffix in (".wav", ".flac", ".ogg"):
        with pytest.raises(MediaError, match="none lies in the time asked for"):
            read_audio(file_of(noise(16_000), 16_000, suffix, tmp_path), start=5)


@needs_packs
def test_every_real_file_is_read_whole_and_in_parts(packs):
    rates = {}
    for path in sorted((packs / "reallife" / "audio").iterdir()):
        info = probe_audio(path)
        rates[path.name] = info.sample_rate, info.channels
        whole = read_audio(path)
        assert whole.shape[0] == 1 and abs(whole.shape[1] / 16_000 - info.seconds) < 0.03, path.name
        assert 0.01 < whole.abs().max() <= 1 and is_sound_only(path), path.name
        part = torch.cat(list(read_blocks(path, start=0.3, stop=0.9, block=1_000)), dim=1)
        assert torch.equal(part, whole[:, 4_800:14_400]), path.name
    assert rates["speech_48k.opus"] == (48_000, 1) and rates["nasa_8k_stereo.mp3"] == (8_000, 2) and len(rates) == 15


@needs_packs
def test_copies_in_other_formats_sound_alike(packs):
    """One recording as 16-bit wav, 8-bit wav and stereo flac and aiff: the difference is what 8 bits lose."""
    folder = packs / "reallife" / "audio"
    first = read_audio(folder / "audio_mono_16_bit_44100Hz.wav")
    for name in ("mono_32_bit_44100Hz.wav", "stereo_24_bit_44100Hz.flac", "stereo_16_bit_44100Hz.aiff"):
        assert (read_audio(folder / f"audio_{name}") - first).abs().max() < 1e-3, name
    assert (read_audio(folder / "audio_mono_8_bit_44100Hz.wav") - first).abs().max() < 0.02


@needs_packs
def test_the_sound_track_of_a_video_is_read_and_a_silent_one_named(packs):
    folder = packs / "reallife" / "video"
    heard = set()
    for path in folder.iterdir():
        try:
            sound = read_audio(path)
        except MediaError as error:
            assert error.reason.startswith(("no sound in it", "no sound of a known format")), path.name
        else:
            heard.add(path.name)
            assert 4 < sound.shape[1] / 16_000 < 14
    assert heard == {
        "alpha_vp9.webm",
        "elf_audio_only.mp4",
        "frog_h264_aac.mp4",
        "nasa_multistream.mp4",
        "pig_vp8_vorbis.webm",
    }
    assert is_sound_only(folder / "elf_audio_only.mp4") and not is_sound_only(folder / "frog_h264_aac.mp4")


def in_wav(sound: torch.Tensor, codec: str, destination) -> None:
    samples = (sound * 2**15).to(torch.int16).numpy()
    with av.open(destination, "w", format="wav") as out:
        stream = out.add_stream(codec, rate=16_000, layout="mono")
        resampler = av.AudioResampler(stream.format, stream.layout, 16_000, stream.codec_context.frame_size or None)
        frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
        frame.sample_rate, frame.pts = 16_000, 0
        for piece in [*resampler.resample(frame), *resampler.resample(None)]:
            out.mux(stream.encode(piece))
        out.mux(stream.encode(None))


@pytest.mark.parametrize("codec", ["adpcm_ima_wav", "adpcm_ms", "libmp3lame"])
def test_a_part_of_what_is_packed_in_a_wav_is_that_part_of_the_whole(codec, tmp_path):
    in_wav(noise(48_000), codec, str(tmp_path / "a.wav"))
    whole = read_audio(tmp_path / "a.wav")
    for start in (1.0, 2.0):
        assert torch.equal(read_audio(tmp_path / "a.wav", start=start), whole[:, round(16_000 * start) :])


class Pipe:
    """A destination that cannot be sought in: a header written there never learns how much followed."""

    def __init__(self) -> None:
        self.data = b""

    def write(self, data: bytes) -> int:
        self.data += bytes(data)
        return len(data)


def test_a_wav_that_was_written_to_a_pipe_is_read_to_its_last_sample():
    pipe, sound = Pipe(), noise(48_000)
    in_wav(sound, "pcm_s16le", pipe)
    assert pipe.data[4:8] == b"\xff" * 4
    for keep in (False, True):
        assert torch.equal(read_audio(pipe.data, keep_decodable=keep), sound)

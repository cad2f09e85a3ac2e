"""Laws of tokenizers/mel.py: the filters of others, and triangles that share every frequency between two bands."""

import numpy as np
import pytest
import torch

from tests.conftest import needs_packs
from tokenloom.tokenizers.mel import hz_of_mel, mel_filters, mel_of_hz


@needs_packs
@pytest.mark.parametrize("num_mels", [80, 128])
def test_the_filters_are_those_of_librosa(packs, num_mels):
    """As whisper ships them: 16 kHz, 400 samples."""
    expected = np.load(packs / "audio" / "reference" / "mel_filters_16k_nfft400.npz")[f"mel_{num_mels}"]
    torch.testing.assert_close(mel_filters(num_mels, 400, 16_000), torch.from_numpy(expected), atol=1e-7, rtol=1e-5)


@pytest.mark.parametrize("hz", [0.0, 440.0, 1000.0, 8000.0])
def test_mels_and_hertz_are_each_other_undone(hz):
    assert float(hz_of_mel(torch.tensor(mel_of_hz(hz), dtype=torch.float64))) == pytest.approx(hz)


def test_each_triangle_has_an_area_of_1():
    """In Hz, up to the coarseness of the bins."""
    assert torch.allclose(mel_filters(16, 4096, 16_000).sum(1) * 16_000 / 4096, torch.ones(16), atol=0.02)

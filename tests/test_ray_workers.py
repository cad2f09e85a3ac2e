"""Laws of pipelines/ray_workers.py: what a cluster makes is what one process makes."""

import os
import socket
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.test_tokenize_files import PICTURES, contents_of, write_files
from tests.test_tokenize_videos import clip
from tokenloom.data.media import MediaError
from tokenloom.data.shards import Source, Tokens
from tokenloom.pipelines.ray_workers import check_reachable, from_row, ray_cluster, to_row
from tokenloom.tokenizers.patches import PaletteTokenizer
from tokenloom.tokenizers.text import TextTokenizer

SOURCE = Source("a.png", Path("some", "a.png"), "0" * 64, 10)


@pytest.mark.parametrize("shape", [(0,), (7,), (2, 3), (3, 0, 4), (2, 3, 4)])
@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_tokens_cross_as_rows(shape, dtype):
    made = Tokens(np.arange(np.prod(shape), dtype=dtype).reshape(shape), {"size": [4, 6], "fps": 30000 / 1001})
    back = from_row(to_row(made), SOURCE)
    assert back.media == made.media and back.ids.dtype == dtype
    np.testing.assert_array_equal(back.ids, made.ids)


def test_an_error_crosses_as_a_row_and_names_the_file():
    back = from_row(to_row(MediaError("elsewhere", "broken")), SOURCE)
    assert isinstance(back, MediaError) and str(back) == f"{SOURCE.path}: broken"


def test_nobody_waits_for_a_cluster_where_nobody_listens():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        check_reachable(f"127.0.0.1:{port}")
        check_reachable(f"ray://127.0.0.1:{port}")
    for address in (f"127.0.0.1:{port}", "127.0.0.1:99999"):
        with pytest.raises(ValueError, match=f"no Ray cluster can be reached at '{address}'"):
            check_reachable(address)
    for address in ("local", "auto"):
        check_reachable(address)


def test_without_ray_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)  # as if it were not installed
    with pytest.raises(ValueError, match=r"install tokenloom\[ray\]"), ray_cluster("local")(print):
        pass


@pytest.mark.slow
@pytest.mark.skipif(find_spec("ray") is None, reason="needs ray, the extra of that name")
def test_two_local_workers_of_ray_make_the_same_bytes(tmp_path):
    files = PICTURES | {"clip.mkv": clip(0, frames=12), "deep/clip.mkv": clip(1, frames=5), "cut.png": b"\x89PNG"}
    write_files(tmp_path / "in", files)
    PaletteTokenizer.from_colors(torch.arange(48, dtype=torch.uint8).view(16, 3)).save_pretrained(tmp_path / "model")
    TextTokenizer.train(["hello"] * 3, vocab_size=260).save_pretrained(tmp_path / "model" / "text_tokenizer")
    command = [sys.executable, "-m", "tokenloom.scripts.cli", "tokenize", str(tmp_path / "in")]
    command += ["--tokenizer", str(tmp_path / "model"), "--workers"]
    eager = os.environ | {"RAY_worker_niceness": "0"}  # usually 15: beside other tests they would hardly get a turn
    for out, more in {"here": ["1"], "cluster": ["2", "--ray", "local"]}.items():
        words = [*command, *more, "--out", str(tmp_path / out)]
        run = subprocess.run(words, capture_output=True, text=True, env=eager)
        assert run.returncode == 1, run.stderr  # cut.png
        assert f"skipped {tmp_path / 'in' / 'cut.png'}" in run.stderr
    expected = contents_of(tmp_path / "here")
    assert sorted({name.partition("/")[0] for name in expected}) == ["image", "text", "video"]
    assert contents_of(tmp_path / "cluster") == expected

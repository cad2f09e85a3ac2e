"""Laws of the benchmark: who is compared with whom, and fairly. What it measures is nobody's law."""

import subprocess
import sys

import pytest
import torch

from tokenloom.models.transformer import SharedTransformer, TransformerConfig
from tokenloom.scripts import benchmark, benchmark_video
from tokenloom.scripts.cli import main
from tokenloom.scripts.peers import NanoGPT
from tokenloom.scripts.side_by_side import side_by_side, speedup, table

CONFIG = TransformerConfig(
    text_vocab_size=8, image_levels=(8, 8, 4), image_grid=(4, 4), width=192, num_layers=2, num_heads=3
)


def test_every_round_runs_every_case_and_the_first_place_goes_round():
    order: list[str] = []
    cases = {name: lambda name=name: order.append(name) for name in "abc"}
    seconds = side_by_side(cases, rounds=3)
    assert "".join(order) == "abc" + "abc" + "bca" + "cab"
    assert {name: len(values) for name, values in seconds.items()} == {"a": 3, "b": 3, "c": 3}


def test_ratios_are_of_the_same_round_and_against_the_faster_peer():
    seconds = {"ours": [1.0, 2.0, 4.0], "slow": [9.0, 9.0, 9.0], "fast": [3.0, 8.0, 8.0]}
    assert speedup(seconds, "ours", over="fast") == [3.0, 4.0, 2.0]
    lines = table("title", seconds, peers=["slow", "fast"], target=2.5, per=10).splitlines()
    assert lines[2].split() == "ours 200.00 (100.00 to 400.00) 3.00 (2.00 to 4.00)".split()
    assert lines[4].split()[-1] == "1"
    assert lines[5].endswith("2.5 times as fast as fast")


def test_the_gpt_has_our_size_and_sees_nothing_that_comes_later():
    peer, ours = NanoGPT(CONFIG), SharedTransformer(CONFIG)
    sizes = [sum(parameter.numel() for parameter in blocks.parameters()) for blocks in (peer.blocks, ours.blocks)]
    assert sizes[0] == pytest.approx(sizes[1], rel=0.02)
    ids = torch.randint(CONFIG.num_codes, (2, 16), generator=torch.Generator().manual_seed(0))
    changed = ids.clone()
    changed[:, 9] = (ids[:, 9] + 1) % CONFIG.num_codes
    before, after = peer(ids), peer(changed)
    assert torch.equal(before[:, :9], after[:, :9])
    assert not torch.equal(before[:, 9:], after[:, 9:])


def test_a_section_says_that_its_peer_is_missing(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "transformers", None)  # as if it were not installed
    assert main(["benchmark", "ar-decode", "--rounds", "1", "--batch-sizes", "1"]) == 0
    assert "ar-decode: skipped, its peer needs transformers, which is not installed" in capsys.readouterr().out


def test_cold_start_without_shipped_weights_says_that_no_picture_was_drawn(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(benchmark, "ROOT", tmp_path)
    ran = []

    def run(words, **options):
        ran.append(words)
        return subprocess.CompletedProcess(words, len(ran) // 7, stderr="warning\nit broke\n")

    monkeypatch.setattr(benchmark.subprocess, "run", run)
    assert main(["benchmark", "cold-start", "--rounds", "2"]) == 0
    assert len(ran) == 3 * 2  # a warm-up and two rounds of two commands
    assert "no picture was drawn" in capsys.readouterr().out
    assert main(["benchmark", "cold-start"]) == 1
    assert capsys.readouterr().err.endswith("--help must run, and ended with 1: it broke\n")


def test_clips_to_tokens_are_judged_by_the_slower_part(monkeypatch):
    for name, value in {"FRAMES": 6, "HEIGHT": 16, "WIDTH": 32, "SIZE": 16, "SHORT": 1, "LONG": 2}.items():
        monkeypatch.setattr(benchmark_video, name, value)
    threads = torch.get_num_threads()
    lines = benchmark_video.speed(rounds=2, target=0.9).splitlines()
    assert [line.split("  ")[1] for line in lines[1:4]] == ["reading alone", "tokenizer alone", "tokenize-video"]
    assert lines[4].endswith("; the target is 0.9") and torch.get_num_threads() == threads
    monkeypatch.setattr(benchmark_video, "peak_mib", {1: 200.0, 2: 210.0}.get)
    assert "1.050 times; the target is at most 1.1" in benchmark_video.memory(target=1.1)
    assert benchmark_video.tokenize_stream(1)[0] == benchmark_video.tokenizer().grid((8, 64, 64))[0]


@pytest.mark.parametrize("words", [["speed"], ["--rounds", "0"], ["--tokens", "257"], ["--batch-sizes", "0"]])
def test_wrong_usage_is_told_in_one_line(words, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["benchmark", *words])
    assert len(capsys.readouterr().err.strip().splitlines()) == 1

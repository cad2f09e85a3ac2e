"""The report: one page that needs nothing else, shows every picture, and lets no prompt become markup."""

import base64
import copy
import re
from html.parser import HTMLParser

import pytest

from tokenloom.pipelines.report import findings, report_html

EVIL = '"><script>alert(1)</script><img src=http://evil.example/x onerror=alert(2)>&amp;'
PICTURES = {f"0-{decoder}-{n}.png": f"PNG {decoder} {n}".encode() for decoder in ("ar", "masked") for n in range(2)}
VOID = {"meta", "img"}


def cell(decoder: str, passed: int | None, seconds: float, gigaflops: float) -> dict:
    return {
        "decoder": decoder,
        "settings": {"guidance_scale": 3.0, "num_inference_steps": 8},
        "seconds": seconds,
        "model_evaluations": 16,
        "gigaflops": gigaflops,
        "passed": passed,
        "diversity": 0.25,
        "drawings": [
            {"file": f"0-{decoder}-{n}.png", "seed": n, "passed": None if passed is None else n < passed}
            for n in range(2)
        ],
    }


def report(prompt: str = "a star", passed: tuple[int | None, int | None] = (1, 2)) -> dict:
    cells = [cell("ar", passed[0], 0.5, 2.0), cell("masked", passed[1], 1.25, 8.0)]
    judged = passed[0] is not None
    overall = [
        {key: value for key, value in one.items() if key != "drawings"}
        | {"judged": 2 if judged else 0, "passed": one["passed"] or 0}
        for one in cells
    ]
    return {
        "model": "tokenloom-mini",
        "on": "scenes",
        "noun": "picture",
        "parameters": 5_500_000,
        "image_size": [64, 48],
        "guidance_scale": 3.0,
        "seed": 0,
        "count": 2,
        "torch": "2.15.0",
        "device": "cpu",
        "threads": 2,
        "decoders": overall,
        "prompts": [{"prompt": prompt, "judged": judged, "decoders": cells}],
    }


class Page(HTMLParser):
    """Reads a page strictly: every tag is closed, in order."""

    def __init__(self, html: str):
        super().__init__(convert_charrefs=True)
        self.open, self.tags, self.attributes, self.text = [], [], [], ""
        self.feed(html)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data if not self.open or self.open[-1] != "style" else ""


def test_the_page_needs_nothing_but_itself():
    html = report_html(report(), PICTURES)
    page = Page(html)
    assert not {"script", "link", "iframe", "object", "form", "base"} & set(page.tags)
    assert not [name for name, _ in page.attributes if name.startswith("on") or name == "href"]
    assert all(value.startswith("data:image/png;base64,") for name, value in page.attributes if name == "src")
    assert "://" not in html and "@import" not in html and "url(" not in html
    assert "default-src 'none'" in html and "prefers-color-scheme: dark" in html


def test_every_picture_is_in_the_page_four_times_as_large():
    page = Page(report_html(report(), PICTURES))
    shown = [base64.b64decode(value.partition(",")[2]) for name, value in page.attributes if name == "src"]
    assert shown == list(PICTURES.values())
    assert page.attributes.count(("width", "192")) == page.attributes.count(("height", "256")) == 4


def test_no_prompt_and_no_name_becomes_markup():
    plain, evil = report(), report(EVIL)
    evil["model"] = EVIL
    page = Page(report_html(evil, PICTURES))
    assert page.tags == Page(report_html(plain, PICTURES)).tags
    assert page.text.count(EVIL) == 3  # title, heading, model
    assert ("alt", f"{EVIL}, by ar, seed 0") in page.attributes


def test_what_the_figures_say_comes_first():
    text = Page(report_html(report(), PICTURES)).text
    order = ["Most often as asked: masked, 2 of 2 pictures.", "Fastest: ar, 500 ms a picture", "Decoder", "a star"]
    places = [text.rindex(words) if words == "a star" else text.index(words) for words in order]
    assert places == sorted(places)
    assert "masked 2.5 times that" in text and "masked 4.0 times that" in text
    assert text.count("\u2713 as asked") == 3 and text.count("\u2717 not as asked") == 1


def strip(lines: list[str]) -> list[str]:
    return [Page(line).text for line in lines]


def test_ties_and_failures_are_told_as_they_are():
    tie = report(passed=(2, 2))["decoders"]
    tie[1]["seconds"] = tie[0]["seconds"]
    first, second, _ = strip(findings(tie, "picture"))
    assert first == "As asked: ar and masked, 2 of 2 pictures each."
    assert second == "Fastest: ar and masked, 500 ms a picture."
    assert strip(findings(report(passed=(0, 0))["decoders"], "picture"))[0] == "As asked: none of the pictures."


def test_prompts_that_nobody_can_judge_are_not_judged():
    text = Page(report_html(report("a dog", passed=(None, None)), PICTURES)).text
    assert "not judged" in text and "nobody judges it but you" in text and "As asked" not in text
    assert not {"\u2713", "\u2717"} & set(text)


def test_one_decoder_is_not_compared_with_itself():
    one = copy.deepcopy(report())
    one["decoders"], one["prompts"][0]["decoders"] = one["decoders"][:1], one["prompts"][0]["decoders"][:1]
    assert strip(findings(one["decoders"], "picture")) == ["As asked: ar, 1 of 2 pictures."]
    assert "1 prompt, 1 decoder, one model" in Page(report_html(one, PICTURES)).text


def report_of_clips(prompt: str = "a star grows") -> dict:
    found = report(prompt) | {"on": "clips", "noun": "clip", "num_frames": 17, "fps": 8}
    for item in (*found["decoders"], *found["prompts"][0]["decoders"]):
        item["flicker"] = {"ar": 0.0012, "masked": 0.0034}[item["decoder"]]
        for entry in item.get("drawings", ()):
            entry |= {"file": entry["file"].replace(".png", ".mp4"), "strip": entry["file"]}
    return found


CLIPS = {name.replace(".png", ".mp4"): data.replace(b"PNG", b"MP4") for name, data in PICTURES.items()}


def test_a_clip_is_a_player_that_needs_no_network_and_a_strip_beside_it():
    html = report_html(report_of_clips(), PICTURES | CLIPS)
    page = Page(html)
    sources = [value.split(";base64,") for name, value in page.attributes if name == "src"]
    assert [kind for kind, _ in sources] == ["data:video/mp4", "data:image/png"] * 4
    assert [base64.b64decode(data) for _, data in sources[::2]] == list(CLIPS.values())
    assert [base64.b64decode(data) for _, data in sources[1::2]] == list(PICTURES.values())
    for name in ("controls", "loop", "muted"):
        assert page.attributes.count((name, None)) == 4
    assert "media-src data:" in html and "://" not in html
    evil = Page(report_html(report_of_clips(EVIL), PICTURES | CLIPS))
    assert evil.tags == page.tags and ("aria-label", f"{EVIL}, by ar, seed 0") in evil.attributes


def test_a_page_of_clips_tells_of_clips_and_how_flicker_is_measured():
    text = Page(report_html(report_of_clips(), PICTURES | CLIPS)).text
    assert "17 frames at 8 a second" in text and "Time a clip" in text and "2 of 2 clips" in text
    assert text.count("0.12%") == text.count("0.34%") == 2 and "median of x(t-1), x(t) and x(t+1)" in text
    assert "picture" not in text.replace("of a picture or frame", "").replace("shows one picture", "")
    assert "licker" not in Page(report_html(report(), PICTURES)).text


@pytest.mark.parametrize("key", ["seconds", "gigaflops"])
def test_a_figure_of_zero_is_no_division(key):
    zero = report()
    zero["decoders"][0][key] = 0.0
    text = Page(report_html(zero, PICTURES)).text
    assert not re.search(r"\b(nan|inf)\b", text) and report()["decoders"][0]["decoder"] in text


def test_settings_that_do_nothing_are_left_out_and_what_the_model_reads_is_told():
    made = report()
    ar, masked = made["decoders"]
    ar["settings"] |= {"best_of": 1, "top_k": 0, "top_p": 0.9, "guidance_from": 1.0, "guidance_until": 0.0}
    page = report_html(made, PICTURES)
    assert "guidance\u00a03, steps\u00a08, top p\u00a00.9<" in page and "own eyes" not in page
    for item, share in zip((ar, masked), (0.5, 0.25), strict=True):
        item["alignment"] = share
    page = report_html(made, PICTURES)
    assert "50%" in page and "25%" in page and page.count("own eyes") == 2  # the column, and how to read it

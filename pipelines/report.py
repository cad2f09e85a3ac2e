"""What `compare` found, as one HTML page: summary first, then figures, then drawings. No network, no script.

The page is a function of report.json and the files that it names alone. Everything that comes from outside is escaped,
and the page forbids itself to load anything but the pictures, clips and sounds that it holds. A drawing is one of them.
"""

import base64
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from typing import Any

from .report_style import STYLE

ZOOM = 4  # screen pixels per pixel of a drawing

UNJUDGED_DRAWING = "Not a caption of the built-in {on}: nobody judges it but you."
UNJUDGED = {"sound": "This model does not write what it hears: nobody judges it but you."}
ASKED = {"sound": "Says what was asked"}  # what the verdict is called where it is not the usual
READING = {
    "Shows what was asked": "a detector finds exactly the objects, colors, sizes, count, places and background that "
    "the prompt names, and in a clip that each does what the prompt says, from the first frame to the last. It judges "
    "prompts that are captions of the built-in world, and no others.",
    "Time": "wall-clock seconds for one {noun}, all {noun}s of a prompt drawn as one batch. "
    "All else on this page is the same in every run.",
    "Model evaluations": "runs of the transformer for one {noun}. With guidance a step runs it twice, with the "
    "prompt and without. A run of ar computes one code, a run of the others all of a picture or frame.",
    "Arithmetic": "floating point operations of matrix products, convolutions and attention for one {noun}, counted "
    "during a real run, prompt and image tokenizer included; a multiplication and an addition are two.",
    "Variety": "mean distance of two {noun}s of one prompt: the root of the mean squared difference of their pixels, "
    "0 for equal {noun}s, 1 for black and white. More is not better by itself.",
}
OF_SOUNDS = {
    "Says what was asked": "what was understood of the sound has the words of the text, in their order. {hearing}",
    "Time": READING["Time"],
    "Model evaluations": "runs of the transformer for one sound. With guidance a step runs it twice, with the text and "
    "without. A run of ar computes one slot, a code of each codebook; one of masked some codes of one codebook; one of "
    "diffusion the latents of all steps. What says how long a sound will be is left out.",
    "Arithmetic": "floating point operations of matrix products, convolutions and attention for the first sound of a "
    "text, counted during a real run, sound tokenizer included; a multiplication and an addition are two.",
}
UNUSED = {"best_of": 1, "guidance_from": 1, "guidance_until": 0, "top_k": 0, "top_p": 1}  # settings that do nothing so
OF_READERS = {
    "To its own eyes": "how probable the model itself finds a token of the prompt as it looks at its {noun}s, in the "
    "geometric mean. It can be wrong in the same way as what it drew.",
}
OF_CLIPS = {
    "Flicker": "mean over pixels and frames of |x(t) - median of x(t-1), x(t) and x(t+1)|, in percent of full scale: "
    "what leaves its value in one frame and is back in the next. What stands still, and what changes one way, as most "
    "of a motion does, counts nothing. Less is steadier; the built-in clips themselves have up to 0.05%, and 0.6% "
    "where something circles fast. A clip that shows one picture all the time has none.",
}


def report_html(report: Mapping[str, Any], files: Mapping[str, bytes]) -> str:
    """The page. `report` is what `compare` puts into report.json; `files` are the PNG and mp4 files that it names."""
    decoders, prompts, noun = report["decoders"], report["prompts"], report["noun"]
    reading = OF_SOUNDS if noun == "sound" else READING
    reading = reading | (OF_READERS if decoders[0].get("alignment") is not None else {})
    reading = reading | (OF_CLIPS if "flicker" in decoders[0] else {})
    words = {"noun": noun, "hearing": report.get("hearing", "")}
    title = f"{_count(len(prompts), 'prompt')}, {_count(len(decoders), 'decoder')}, one model"
    sections = "".join(_prompt(row, files, report) for row in prompts)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'">
<title>{escape(prompts[0]["prompt"])} - tokenloom compare</title>
<style>{STYLE}</style>
</head>
<body>
<main>
<header>
<p class="over">tokenloom compare</p>
<h1>{title}</h1>
<ul class="findings">{"".join(f"<li>{line}</li>" for line in findings(decoders, noun))}</ul>
<p class="facts">{escape(_facts(report))}</p>
</header>
<div class="figures card"><table>{_figures(decoders, noun)}</table></div>
{sections}
<footer>{"".join(f"<p><b>{name}:</b> {escape(text.format(**words))}</p>" for name, text in reading.items())}</footer>
</main>
</body>
</html>
"""


def findings(decoders: Sequence[Mapping[str, Any]], noun: str) -> list[str]:
    """What the figures say, a sentence each, as HTML."""
    lines = []
    judged = [item for item in decoders if item["judged"]]
    if judged:
        names, share = _leaders(judged, lambda item: -item["passed"] / item["judged"])
        most = "Most often as asked" if 1 < len(judged) != len(names) else "As asked"
        count = f"{-share * judged[0]['judged']:.0f} of {_count(judged[0]['judged'], noun)}"
        each = " each" if len(names) > 1 else ""
        lines.append(f"{most}: {_names(names)}, {count}{each}." if share else f"As asked: none of the {noun}s.")
    if len(decoders) > 1:
        lines.append(_least(decoders, "seconds", "Fastest", lambda value: f"{_seconds(value)} a {noun}"))
        lines.append(_least(decoders, "gigaflops", "Least arithmetic", lambda value: f"{_flops(value)} a {noun}"))
    return lines


def _least(decoders: Sequence[Mapping[str, Any]], key: str, praise: str, form: Callable[[float], str]) -> str:
    """Who has the smallest figure, and how many times as much the others have."""
    names, least = _leaders(decoders, lambda item: item[key])
    others = [
        f", {_names([item['decoder']])} {_times(item[key] / least)}"
        for item in decoders
        if least and item["decoder"] not in names
    ]
    return f"{praise}: {_names(names)}, {form(least)}{''.join(others)}."


def _leaders(items: Iterable[Mapping[str, Any]], key: Callable[[Mapping[str, Any]], float]) -> tuple[list[str], float]:
    """Names of all with the smallest key, and that key."""
    keys = {item["decoder"]: key(item) for item in items}
    least = min(keys.values())
    return [name for name, value in keys.items() if value == least], least


def _names(names: Sequence[str]) -> str:
    marked = [f'<strong class="{escape(name)}">{escape(name)}</strong>' for name in names]
    return marked[0] if len(marked) == 1 else f"{', '.join(marked[:-1])} and {marked[-1]}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _times(ratio: float) -> str:
    return f"{ratio:.1f} times that" if ratio < 9.95 else f"{ratio:.0f} times that"


def _seconds(value: float) -> str:
    return f"{1000 * value:.0f} ms" if value < 1 else f"{value:.3g} s"


def _flops(gigaflops: float) -> str:
    return f"{gigaflops:.3g} GFLOP" if gigaflops >= 1 else f"{1000 * gigaflops:.3g} MFLOP"


def _percent(share: float) -> str:
    return f"{100 * share:.2f}%"


def _facts(report: Mapping[str, Any]) -> str:
    height, width = report.get("image_size", (0, 0))
    last = report["seed"] + report["count"] * len(report["prompts"]) - 1
    return " \u00b7 ".join(
        (
            *([report["model"]] if report["model"] else []),
            f"{report['parameters'] / 1e6:.2f} M parameters, shared by all decoders",
            *([f"{width} x {height} pixels"] if width else []),
            *([f"voice {report['speaker']}"] if report.get("speaker") else []),
            *([f"{report['num_frames']} frames at {report['fps']} a second"] if "num_frames" in report else []),
            f"guidance {report['guidance_scale']:g}",
            f"seeds {report['seed']} to {last}",
            f"{report['device']}, {_count(report['threads'], 'thread')}, torch {report['torch']}",
        )
    )


def _figures(decoders: Sequence[Mapping[str, Any]], noun: str) -> str:
    """Rows of the table: a figure, and a bar that compares it with the largest of its column."""
    columns: list[tuple[str, Callable[[Mapping[str, Any]], float | None], Callable[[float], str], bool]] = [
        (f"Time a {noun}", lambda item: item["seconds"], _seconds, True),
        ("Model evaluations", lambda item: item["model_evaluations"], lambda value: f"{value:.0f}", True),
        (f"Arithmetic a {noun}", lambda item: item["gigaflops"], _flops, True),
    ]
    if decoders[0].get("alignment") is not None:
        columns.append(("To its own eyes", lambda item: item["alignment"], "{:.0%}".format, False))
    if "diversity" in decoders[0]:
        columns.append(("Variety", lambda item: item["diversity"], lambda value: f"{value:.3f}", False))
    if "flicker" in decoders[0]:
        columns.append(("Flicker", lambda item: item["flicker"], _percent, True))
    head = "".join(f'<th scope="col">{name}</th>' for name in ("Decoder", ASKED.get(noun, "Shows what was asked")))
    head += "".join(f'<th scope="col">{name}</th>' for name, *_ in columns) + '<th scope="col">Sampled with</th>'
    body = ""
    for item in decoders:
        cells = [f'<th scope="row">{escape(item["decoder"])}</th>', _share_cell(item, decoders)]
        for _, value_of, form, less_is_better in columns:
            values = [value for other in decoders if (value := value_of(other)) is not None]
            value = value_of(item)
            best = less_is_better and len(decoders) > 1 and value == min(values)
            words = form(value) if value is not None else f"one {noun} only"
            cells.append(_bar_cell(value, words, max(values, default=0), best))
        settings = ", ".join(
            f"{_setting(name)}\u00a0{value:g}" for name, value in item["settings"].items() if UNUSED.get(name) != value
        )
        cells.append(f'<td class="how">{escape(settings)}</td>')
        body += f'<tr class="{escape(item["decoder"])}">{"".join(cells)}</tr>'
    return f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody>"


def _setting(name: str) -> str:
    return {"guidance_scale": "guidance", "num_inference_steps": "steps"}.get(name, name.replace("_", " "))


def _share_cell(item: Mapping[str, Any], decoders: Sequence[Mapping[str, Any]]) -> str:
    if not item["judged"]:
        return '<td><span class="unit">not judged</span></td>'
    best = len(decoders) > 1 and item["passed"] == max(other["passed"] for other in decoders) > 0
    words = f"{item['passed'] / item['judged']:.0%} <span class='unit'>({item['passed']} of {item['judged']})</span>"
    return _bar_cell(item["passed"], words, item["judged"], best)


def _bar_cell(value: float | None, words: str, full: float, best: bool) -> str:
    if value is None:
        return f'<td><span class="unit">{words}</span></td>'
    width = 100 * value / full if full else 0
    words = f"<b>{words}</b>" if best else words
    return f'<td>{words}<span class="bar"><i style="width:{width:.1f}%"></i></span></td>'


def _prompt(row: Mapping[str, Any], files: Mapping[str, bytes], report: Mapping[str, Any]) -> str:
    note = f'<p class="note">{UNJUDGED.get(report["noun"], UNJUDGED_DRAWING).format(on=report["on"])}</p>'
    cells = "".join(_row(cell, row["prompt"], files, report.get("image_size", ())) for cell in row["decoders"])
    return (
        f"<section><h2>{escape(row['prompt'])}</h2>{'' if row['judged'] else note}"
        f'<div class="card">{cells}</div></section>'
    )


def _row(cell: Mapping[str, Any], prompt: str, files: Mapping[str, bytes], size: Sequence[int]) -> str:
    name = escape(cell["decoder"])
    figures = (
        *([] if cell["passed"] is None else [f"{cell['passed']} of {len(cell['drawings'])} as asked"]),
        _seconds(cell["seconds"]),
        f"{cell['model_evaluations']:.0f} evaluations",
        _flops(cell["gigaflops"]),
        *([] if cell.get("alignment") is None else [f"{cell['alignment']:.0%} to its own eyes"]),
        *([] if cell.get("diversity") is None else [f"variety {cell['diversity']:.3f}"]),
        *([f"flicker {_percent(cell['flicker'])}"] if "flicker" in cell else []),
    )
    told = "".join(f"<span>{figure}</span>" for figure in figures)
    shown = "".join(_figure(entry, f"{prompt}, by {cell['decoder']}", files, size) for entry in cell["drawings"])
    return f'<div class="row {name}"><header><h3>{name}</h3>{told}</header><div class="drawings">{shown}</div></div>'


def _figure(entry: Mapping[str, Any], words: str, files: Mapping[str, bytes], size: Sequence[int]) -> str:
    words = escape(f"{words}, seed {entry['seed']}")
    drawn_from = f"seed {entry['seed']}" + (f", {escape(entry['speaker'])}" if entry.get("speaker") else "")
    heard = f"<span>{escape(entry['heard'])}</span>" if entry.get("heard") else ""
    mark = {True: '<span class="yes">&#10003; as asked</span>', False: '<span class="no">&#10007; not as asked</span>'}
    return (
        f"<figure>{_drawing(entry, words, files, size)}"
        f"<figcaption><span>{drawn_from}</span>{heard}{mark.get(entry['passed'], '')}</figcaption></figure>"
    )


def _drawing(entry: Mapping[str, Any], words: str, files: Mapping[str, bytes], size: Sequence[int]) -> str:
    """A picture; or the player of a clip or sound, and its frames or spectrogram, in their own size.

    `words` are escaped.
    """
    source, *strip = [base64.b64encode(files[entry[key]]).decode() for key in ("file", "strip") if key in entry]
    if entry["file"].endswith(".wav"):
        return (
            f'<div class="sound"><img src="data:image/png;base64,{strip[0]}" alt="{words}, its spectrogram">'
            f'<audio src="data:audio/wav;base64,{source}" controls aria-label="{words}"></audio></div>'
        )
    sides = f'width="{ZOOM * size[1]}" height="{ZOOM * size[0]}"'
    if not strip:
        return f'<img src="data:image/png;base64,{source}" {sides} alt="{words}">'
    return (
        f'<div class="clip"><video src="data:video/mp4;base64,{source}" {sides} controls loop muted autoplay '
        f'playsinline aria-label="{words}"></video>'
        f'<img src="data:image/png;base64,{strip[0]}" alt="{words}, frame by frame"></div>'
    )

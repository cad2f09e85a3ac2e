"""What `compare` found, as one HTML page: summary first, then figures, then pictures. No network, no script.

The page is a function of report.json and the pictures alone. Everything that comes from outside is escaped, and the
page forbids itself to load anything but the pictures that it holds.
"""

import base64
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from typing import Any

ZOOM = 4  # screen pixels per pixel of a picture

STYLE = """
:root { color-scheme: light dark; --paper: #fbfaf7; --card: #ffffff; --ink: #1d1c1a; --soft: #6d6a63; --line: #e4e1d8;
  --track: #efece4; --ar: #c26a12; --masked: #2f66d0; --diffusion: #8546c4; --good: #24804a; --bad: #c03a33; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #161514; --card: #1f1e1c; --ink: #eeebe4; --soft: #a09b91; --line: #35332f; --track: #2b2926;
    --ar: #eda04b; --masked: #7aa5f5; --diffusion: #bd8cf0; --good: #5cc488; --bad: #f0837b; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); -webkit-text-size-adjust: 100%;
  font: 16px/1.55 ui-sans-serif, system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
main { max-width: 1184px; margin: 0 auto; padding: 56px 32px 72px; }
h1 { font-size: 38px; line-height: 1.15; letter-spacing: -0.02em; font-weight: 680; margin: 6px 0 22px; }
h2 { font-size: 23px; line-height: 1.3; letter-spacing: -0.01em; font-weight: 640; margin: 64px 0 18px;
  overflow-wrap: anywhere; }
h3 { font-size: 18px; font-weight: 640; margin: 0; }
.over { color: var(--soft); font-size: 13px; letter-spacing: 0.08em; text-transform: uppercase; margin: 0; }
.findings { list-style: none; margin: 0 0 22px; padding: 0; font-size: 19px; line-height: 1.65; }
.findings strong, h3, th[scope=row] { color: var(--who, inherit); }
.facts { color: var(--soft); font-size: 14px; margin: 0; overflow-wrap: anywhere; }
.ar { --who: var(--ar); } .masked { --who: var(--masked); } .diffusion { --who: var(--diffusion); }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 14px; }
.figures { margin-top: 36px; overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: 14px 20px; border-top: 1px solid var(--line); vertical-align: top; }
thead th { border-top: 0; color: var(--soft); font-weight: 500; font-size: 13px; white-space: nowrap; }
tbody th { font-weight: 640; }
td b { font-weight: 680; } td span.unit, td.how { color: var(--soft); font-size: 13px; } td.how { min-width: 140px; }
.bar { display: block; height: 5px; margin-top: 7px; border-radius: 3px; background: var(--track); overflow: hidden; }
.bar i { display: block; height: 100%; border-radius: 3px; background: var(--who); }
.note { color: var(--soft); font-size: 14px; margin: -12px 0 16px; }
.row { padding: 20px 22px 24px; }
.row + .row { border-top: 1px solid var(--line); }
.row header { display: flex; flex-wrap: wrap; align-items: baseline; gap: 4px 22px; margin-bottom: 14px; }
.row header span { color: var(--soft); font-size: 14px; font-variant-numeric: tabular-nums; }
.pictures { display: flex; flex-wrap: wrap; gap: 16px; }
figure { margin: 0; }
figure img { display: block; max-width: 100%; border-radius: 8px; image-rendering: pixelated;
  box-shadow: 0 0 0 1px var(--line); }
figcaption { font-size: 13px; color: var(--soft); margin-top: 6px; display: flex; justify-content: space-between; }
.yes { color: var(--good); } .no { color: var(--bad); }
footer { margin-top: 72px; padding-top: 26px; border-top: 1px solid var(--line); color: var(--soft); font-size: 14px; }
footer p { margin: 0 0 10px; max-width: 92ch; } footer b { color: var(--ink); font-weight: 600; }
@media (max-width: 760px) { main { padding: 32px 16px 48px; } h1 { font-size: 29px; }
  .row { padding: 16px; } th, td { padding: 12px 14px; } }
@media print { .row, figure { break-inside: avoid; } main { padding: 0; } }
"""

READING = {
    "Shows what was asked": "a detector finds exactly the objects, colors, sizes, count, places and background that "
    "the prompt names. It judges prompts that are captions of the built-in scenes, and no others.",
    "Time": "wall-clock seconds for one picture, all pictures of a prompt drawn as one batch. "
    "All else on this page is the same in every run.",
    "Model evaluations": "runs of the transformer for one picture. With guidance a step runs it twice, with the "
    "prompt and without. A run of ar computes one code, a run of the others all of them.",
    "Arithmetic": "floating point operations of matrix products, convolutions and attention for one picture, counted "
    "during a real run, prompt and image tokenizer included; a multiplication and an addition are two.",
    "Variety": "mean distance of two pictures of one prompt: the root of the mean squared difference of their pixels, "
    "0 for equal pictures, 1 for black and white. More is not better by itself.",
}


def report_html(report: Mapping[str, Any], pictures: Mapping[str, bytes]) -> str:
    """The page. `report` is what `compare` puts into report.json; `pictures` are the PNG files that it names."""
    decoders, prompts = report["decoders"], report["prompts"]
    title = f"{_count(len(prompts), 'prompt')}, {_count(len(decoders), 'decoder')}, one model"
    sections = "".join(_prompt(row, pictures, report["image_size"]) for row in prompts)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{escape(prompts[0]["prompt"])} - tokenloom compare</title>
<style>{STYLE}</style>
</head>
<body>
<main>
<header>
<p class="over">tokenloom compare</p>
<h1>{title}</h1>
<ul class="findings">{"".join(f"<li>{line}</li>" for line in findings(decoders))}</ul>
<p class="facts">{escape(_facts(report))}</p>
</header>
<div class="figures card"><table>{_figures(decoders)}</table></div>
{sections}
<footer>{"".join(f"<p><b>{name}:</b> {escape(text)}</p>" for name, text in READING.items())}</footer>
</main>
</body>
</html>
"""


def findings(decoders: Sequence[Mapping[str, Any]]) -> list[str]:
    """What the figures say, a sentence each, as HTML."""
    lines = []
    judged = [item for item in decoders if item["judged"]]
    if judged:
        names, share = _leaders(judged, lambda item: -item["passed"] / item["judged"])
        most = "Most often as asked" if 1 < len(judged) != len(names) else "As asked"
        count = f"{-share * judged[0]['judged']:.0f} of {_count(judged[0]['judged'], 'picture')}"
        each = " each" if len(names) > 1 else ""
        lines.append(f"{most}: {_names(names)}, {count}{each}." if share else "As asked: none of the pictures.")
    if len(decoders) > 1:
        lines.append(_least(decoders, "seconds", "Fastest", _seconds))
        lines.append(_least(decoders, "gigaflops", "Least arithmetic", _flops))
    return lines


def _least(decoders: Sequence[Mapping[str, Any]], key: str, praise: str, form: Callable[[float], str]) -> str:
    """Who has the smallest figure, and how many times as much the others have."""
    names, least = _leaders(decoders, lambda item: item[key])
    others = [
        f", {_names([item['decoder']])} {_times(item[key] / least)}"
        for item in decoders
        if least and item["decoder"] not in names
    ]
    return f"{praise}: {_names(names)}, {form(least)} a picture{''.join(others)}."


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


def _facts(report: Mapping[str, Any]) -> str:
    height, width = report["image_size"]
    last = report["seed"] + report["num_images"] * len(report["prompts"]) - 1
    return " \u00b7 ".join(
        (
            *([report["model"]] if report["model"] else []),
            f"{report['parameters'] / 1e6:.2f} M parameters, shared by all decoders",
            f"{width} x {height} pixels",
            f"guidance {report['guidance_scale']:g}",
            f"seeds {report['seed']} to {last}",
            f"{report['device']}, {_count(report['threads'], 'thread')}, torch {report['torch']}",
        )
    )


def _figures(decoders: Sequence[Mapping[str, Any]]) -> str:
    """Rows of the table: a figure, and a bar that compares it with the largest of its column."""
    columns: list[tuple[str, Callable[[Mapping[str, Any]], float | None], Callable[[float], str], bool]] = [
        ("Time a picture", lambda item: item["seconds"], _seconds, True),
        ("Model evaluations", lambda item: item["model_evaluations"], lambda value: f"{value:.0f}", True),
        ("Arithmetic a picture", lambda item: item["gigaflops"], _flops, True),
        ("Variety", lambda item: item["diversity"], lambda value: f"{value:.3f}", False),
    ]
    head = "".join(f'<th scope="col">{name}</th>' for name in ("Decoder", "Shows what was asked"))
    head += "".join(f'<th scope="col">{name}</th>' for name, *_ in columns) + '<th scope="col">Sampled with</th>'
    body = ""
    for item in decoders:
        cells = [f'<th scope="row">{escape(item["decoder"])}</th>', _share_cell(item, decoders)]
        for _, value_of, form, less_is_better in columns:
            values = [value for other in decoders if (value := value_of(other)) is not None]
            value = value_of(item)
            best = less_is_better and len(decoders) > 1 and value == min(values)
            cells.append(_bar_cell(value, form(value) if value is not None else "", max(values, default=0), best))
        settings = ", ".join(f"{_setting(name)}\u00a0{value:g}" for name, value in item["settings"].items())
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
        return '<td><span class="unit">one picture only</span></td>'
    width = 100 * value / full if full else 0
    words = f"<b>{words}</b>" if best else words
    return f'<td>{words}<span class="bar"><i style="width:{width:.1f}%"></i></span></td>'


def _prompt(row: Mapping[str, Any], pictures: Mapping[str, bytes], size: Sequence[int]) -> str:
    note = (
        "" if row["judged"] else '<p class="note">Not a caption of the built-in scenes: nobody judges it but you.</p>'
    )
    cells = "".join(_row(cell, row["prompt"], pictures, size) for cell in row["decoders"])
    return f'<section><h2>{escape(row["prompt"])}</h2>{note}<div class="card">{cells}</div></section>'


def _row(cell: Mapping[str, Any], prompt: str, pictures: Mapping[str, bytes], size: Sequence[int]) -> str:
    name = escape(cell["decoder"])
    figures = (
        *([] if cell["passed"] is None else [f"{cell['passed']} of {len(cell['pictures'])} as asked"]),
        _seconds(cell["seconds"]),
        f"{cell['model_evaluations']} evaluations",
        _flops(cell["gigaflops"]),
        *([] if cell["diversity"] is None else [f"variety {cell['diversity']:.3f}"]),
    )
    told = "".join(f"<span>{figure}</span>" for figure in figures)
    shown = "".join(_figure(entry, f"{prompt}, by {cell['decoder']}", pictures, size) for entry in cell["pictures"])
    return f'<div class="row {name}"><header><h3>{name}</h3>{told}</header><div class="pictures">{shown}</div></div>'


def _figure(entry: Mapping[str, Any], words: str, pictures: Mapping[str, bytes], size: Sequence[int]) -> str:
    data = base64.b64encode(pictures[entry["file"]]).decode()
    mark = {True: '<span class="yes">&#10003; as asked</span>', False: '<span class="no">&#10007; not as asked</span>'}
    return (
        f'<figure><img src="data:image/png;base64,{data}" width="{ZOOM * size[1]}" height="{ZOOM * size[0]}" '
        f'alt="{escape(words)}, seed {entry["seed"]}"><figcaption><span>seed {entry["seed"]}</span>'
        f"{mark.get(entry['passed'], '')}</figcaption></figure>"
    )

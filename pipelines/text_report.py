"""What compare-text found, as one HTML page: figures, what each byte cost, continuations. No network, no script.

The page is a function of report.json alone, and everything that comes from outside is escaped.
"""

from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import PurePath
from typing import Any

from .report_style import STYLE

OWN_STYLE = """
.ngram { --who: var(--ar); } .bytes { --who: var(--masked); } .pieces { --who: var(--diffusion); }
pre { margin: 0; white-space: pre-wrap; overflow-wrap: anywhere; font: 14px/1.5 ui-monospace, SFMono-Regular, Menlo,
  Consolas, monospace; }
.findings strong { white-space: nowrap; }
pre .prompt { color: var(--soft); }
.texts { display: grid; grid-template-columns: repeat(auto-fill, minmax(330px, 1fr)); }
.texts .row { border: 0; } .texts .row + .row { border-top: 0; }
th .unit { display: block; color: var(--soft); font-weight: 400; font-size: 13px; }
.costs span { border-radius: 3px; background: color-mix(in srgb, var(--who) var(--share), transparent); }
"""
DEAREST = 8.0  # bits per byte at which a piece is colored fully: no better than chance
READING = {
    "Bits per byte": "what the held-out text costs, -log2 of the probability that a model gives each piece of it, over "
    "its bytes: 8 for pure chance, and less is better. It is also how far an arithmetic coder could shrink the text "
    "with this model. A model on pieces of words could spell the text in other ways, too, which are not counted.",
    "Parameters": "numbers that a model holds: weights of a transformer, counts of an n-gram.",
    "Training": "wall-clock time on this machine, with what was measured on the way; of a run that was resumed it is "
    "not known. All else on this page is the same in every run.",
    "Arithmetic": "floating point operations of matrix products in training, a multiplication and an addition are two. "
    "The two transformers spend equally many, so that on pieces of words takes fewer steps: its head is larger.",
    "Times read": "how often training saw its text. An n-gram counts once; a transformer on pieces of words reads more "
    "of the text with the same number of tokens.",
}


def report_html(report: Mapping[str, Any]) -> str:
    """The page of what `compare_text` puts into report.json."""
    arms, prompts = report["arms"], report["prompts"]
    sections = "".join(_continuations(prompt, number, arms) for number, prompt in enumerate(prompts))
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{len(arms)} models of text - tokenloom compare-text</title>
<style>{STYLE}{OWN_STYLE}</style>
</head>
<body>
<main>
<header>
<p class="over">tokenloom compare-text</p>
<h1>What comes next, by {len(arms)} models</h1>
<ul class="findings">{"".join(f"<li>{line}</li>" for line in findings(arms))}</ul>
<p class="facts">{escape(_facts(report))}</p>
</header>
<div class="figures card"><table>{_figures(arms)}</table></div>
<section><h2>What each piece of a held-out text cost</h2>
<p class="note">The stronger the color, the more bits a byte: what a model did not expect.</p>
<div class="card texts">{"".join(_costs(arm) for arm in arms)}</div></section>
{sections}
<footer>{"".join(f"<p><b>{name}:</b> {escape(text)}</p>" for name, text in READING.items())}</footer>
</main>
</body>
</html>
"""


def findings(arms: Sequence[Mapping[str, Any]]) -> list[str]:
    """What the figures say, a sentence each, as HTML."""
    ranked = sorted(arms, key=lambda arm: arm["bits_per_byte"])
    best, others = ranked[0], ranked[1:]
    behind = ", ".join(f"{_name(arm)} {arm['bits_per_byte']:.2f}" for arm in others)
    lines = [f"Fewest bits per byte: {_name(best)}, {best['bits_per_byte']:.2f}{'; ' if behind else ''}{behind}."]
    if others and all(arm["seconds"] is not None for arm in arms):  # an unknown time may be the longest
        fastest, slowest = (pick(arms, key=lambda arm: arm["seconds"]) for pick in (min, max))
        lines.append(
            f"Trained fastest: {_name(fastest)}, {_seconds(fastest['seconds'])}; "
            f"slowest: {_name(slowest)}, {_seconds(slowest['seconds'])}."
        )
    return lines


def _name(arm: Mapping[str, Any]) -> str:
    return f'<strong class="{escape(arm["kind"])}">{escape(arm["name"])}</strong>'


def _seconds(value: float | None) -> str:
    if value is None:
        return "resumed"
    if value < 1:
        return f"{1000 * value:.0f} ms"
    return f"{value:.1f} s" if value < 100 else f"{value / 60:.1f} min"


def _facts(report: Mapping[str, Any]) -> str:
    return " \u00b7 ".join(
        (
            *(PurePath(name).name for name in report["data"]),
            f"{report['train_bytes'] / 1e6:.2f} MB to learn from",
            f"{report['held_out_bytes'] / 1e3:.1f} kB held out",
            f"windows of {report['window']} tokens",
            f"temperature {report['temperature']:g}",
            f"seed {report['seed']}",
            f"threads {report['threads']}, torch {report['torch']}",
        )
    )


def _figures(arms: Sequence[Mapping[str, Any]]) -> str:
    """Rows of the table: a figure each, and a bar that compares bits with the most of all arms."""
    columns: list[tuple[str, Callable[[Mapping[str, Any]], str]]] = [
        ("Parameters", lambda arm: f"{arm['parameters']:,}"),
        ("Training", lambda arm: _seconds(arm["seconds"])),
        ("Arithmetic", lambda arm: f"{arm['teraflops']:.3g} TFLOP" if arm["teraflops"] else "counting"),
        ("Times read", lambda arm: f"{arm['epochs']:.1f}"),
    ]
    head = "".join(
        f'<th scope="col">{name}</th>' for name in ("Model", "Bits per byte", *(name for name, _ in columns))
    )
    least, most = (pick(arm["bits_per_byte"] for arm in arms) for pick in (min, max))
    body = ""
    for arm in arms:
        bits = arm["bits_per_byte"]
        words = f"<b>{bits:.3f}</b>" if bits == least else f"{bits:.3f}"
        bar = f'<span class="bar"><i style="width:{100 * bits / most:.1f}%"></i></span>'
        told = "".join(f"<td>{escape(form(arm))}</td>" for _, form in columns)
        name = f'{escape(arm["name"])}<span class="unit">{escape(arm["about"])}</span>'
        body += f'<tr class="{escape(arm["kind"])}"><th scope="row">{name}</th><td>{words}{bar}</td>{told}</tr>'
    return f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody>"


def _costs(arm: Mapping[str, Any]) -> str:
    pieces = "".join(
        f'<span style="--share:{100 * min(1.0, bits / DEAREST):.0f}%" title="{bits:g} bits per byte">'
        f"{escape(piece)}</span>"
        for piece, bits in arm["costs"]
    )
    return _row(arm, f'<pre class="costs">{pieces}</pre>')


def _continuations(prompt: str, number: int, arms: Sequence[Mapping[str, Any]]) -> str:
    rows = "".join(
        _row(arm, f'<pre><span class="prompt">{escape(prompt)}</span>{escape(arm["continuations"][number])}</pre>')
        for arm in arms
    )
    return f'<section><h2>{escape(prompt.strip()) or "From nothing"}</h2><div class="card texts">{rows}</div></section>'


def _row(arm: Mapping[str, Any], content: str) -> str:
    return f'<div class="row {escape(arm["kind"])}"><header><h3>{escape(arm["name"])}</h3></header>{content}</div>'

"""How the page of `compare` looks: light and dark, on screens of any width and on paper."""

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
.drawings { display: flex; flex-wrap: wrap; gap: 16px; }
figure { margin: 0; }
figure img, video { display: block; max-width: 100%; border-radius: 8px; image-rendering: pixelated;
  box-shadow: 0 0 0 1px var(--line); }
.sound img { min-width: 220px; height: 144px; }
.sound audio { display: block; width: 240px; height: 34px; margin-top: 8px; }
.clip { display: flex; flex-wrap: wrap; align-items: center; gap: 16px; }
figcaption { font-size: 13px; color: var(--soft); margin-top: 6px; }
figcaption { display: flex; justify-content: space-between; gap: 12px; }
.yes { color: var(--good); } .no { color: var(--bad); }
footer { margin-top: 72px; padding-top: 26px; border-top: 1px solid var(--line); color: var(--soft); font-size: 14px; }
footer p { margin: 0 0 10px; max-width: 92ch; } footer b { color: var(--ink); font-weight: 600; }
@media (max-width: 760px) { main { padding: 32px 16px 48px; } h1 { font-size: 29px; }
  .row { padding: 16px; } th, td { padding: 12px 14px; } }
@media print { .row, figure { break-inside: avoid; } main { padding: 0; } }
"""

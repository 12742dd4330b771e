"""The page's style: one column on a phone, headings beside the text on a desk, dark where the reader's screen is, and paper."""

STYLE = r"""
:root {
  color-scheme: light dark;
  --paper: #fdfdfb; --raised: #f4f5f3; --ink: #1b2126; --soft: #57626c; --rule: #d9dddf; --faint: #e9ebec;
  --strong: #0b5fa5; --keep: #2f6f55; --one: #7c8791; --band: #e3e7ea; --alarm: #a3330b;
  --kind0: #0b5fa5; --kind1: #c4560a; --kind2: #1d7d60; --kind3: #8a5a9e;
  --heat: linear-gradient(90deg, #0c163c, #2d427a, #706c82, #b2916e, #e8c468, #fff6c4);
  --signed: linear-gradient(90deg, #0060b0, #c9c9c9, #d55e00);
  --serif: Charter, 'Bitstream Charter', 'Iowan Old Style', Georgia, 'Liberation Serif', serif;
  --sans: system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', 'Liberation Sans', sans-serif;
  --mono: ui-monospace, 'SF Mono', Menlo, Consolas, 'Liberation Mono', monospace;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #14181b; --raised: #1c2125; --ink: #e4e7e9; --soft: #9da8b1; --rule: #343b41; --faint: #252b30;
    --strong: #6fb4ee; --keep: #7cc4a3; --one: #7f8b95; --band: #2c343a; --alarm: #ff9b73;
    --kind0: #6fb4ee; --kind1: #f0924c; --kind2: #62c3a0; --kind3: #c598d8;
    --signed: linear-gradient(90deg, #2f8fe0, #8a8a8a, #e8762a);
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; scroll-behavior: smooth; }
body {
  margin: 0 auto; padding: 2rem 1.25rem 4rem; max-width: 74rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.55 var(--sans); font-variant-numeric: tabular-nums lining-nums; overflow-wrap: break-word;
}
a { color: var(--strong); text-underline-offset: .18em; text-decoration-thickness: from-font; }
:focus-visible { outline: 2px solid var(--strong); outline-offset: 3px; border-radius: 2px; }
p { margin: 0 0 .9em; max-width: 42rem; }
h1, h2 { font-family: var(--serif); font-weight: 600; line-height: 1.2; text-wrap: balance; }
h1 { font-size: clamp(1.7rem, 1.2rem + 2.2vw, 2.6rem); margin: 0 0 .5rem; letter-spacing: -.01em; }
h2 { font-size: 1.3rem; margin: 0 0 .6rem; }
h3 { font-size: .95rem; font-weight: 600; margin: 2.2rem 0 .6rem; }
.content > h3:first-child { margin-top: 0; }
small { font-size: .8rem; color: var(--soft); }
code { font-family: var(--mono); font-size: .85em; overflow-wrap: anywhere; }
img { display: block; max-width: 100%; height: auto; border-radius: 3px; background: #fff; }
figure { margin: 0; }
figcaption { font-size: .8rem; line-height: 1.35; color: var(--soft); padding-top: .3rem; }
.interval { white-space: nowrap; color: var(--soft); }
data { white-space: nowrap; }

/* The top: what everybody reads. */
.kind { text-transform: uppercase; letter-spacing: .09em; font-size: .75rem; color: var(--soft); margin: 0 0 .4rem; }
.meta { max-width: none; color: var(--soft); font-size: .85rem; display: flex; flex-wrap: wrap; gap: .1rem 1.4rem; margin-bottom: 2rem; }
.alarm { max-width: none; background: #b3160b; color: #fff; border-radius: 4px; padding: .8rem 1rem; font-weight: 600;
  print-color-adjust: exact; -webkit-print-color-adjust: exact; }
.alarm a { color: inherit; }
.answer { max-width: none; border-left: 4px solid var(--ink); padding: .2rem 0 .2rem 1rem; margin: 0 0 2rem; font-family: var(--serif); }
.answer p { font-size: clamp(1.15rem, 1rem + .8vw, 1.45rem); line-height: 1.4; max-width: 52rem; margin-bottom: .4em; font-weight: 600; }
.answer .always { color: var(--alarm); margin-bottom: 0; }
.recovered { display: grid; grid-template-columns: 8rem 1fr; gap: .9rem; align-items: end; margin: 0 0 1rem; }
.opening { display: grid; gap: 2rem; }
.words { font-family: var(--serif); font-size: 1.14rem; line-height: 1.55; }
.words p { margin-bottom: .8em; text-wrap: pretty; }
.words .onward { font: .9rem var(--sans); }
.care { max-width: none; font-size: .85rem; color: var(--soft); border-top: 1px solid var(--rule); margin: 2rem 0 0; padding-top: .8rem; }

/* The person. */
.stage { display: grid; gap: 1rem; align-content: start; }
.view { display: grid; grid-template-columns: minmax(0, 1fr); gap: .5rem; align-content: start; }
.stage img { width: 100%; }
.small { display: grid; grid-template-columns: 6.5rem 1fr; gap: .9rem; align-items: start; }
.view .small { display: block; }
.view .beside span { display: none; }
.beside { margin: 0; font-size: .85rem; color: var(--soft); }
.beside span { display: block; margin-top: .4rem; }
.views { display: grid; grid-template-columns: repeat(auto-fill, minmax(5.25rem, 1fr)); gap: 1.25rem .5rem; touch-action: pan-y; }
.js .views { display: block; }
.slider { display: none; }
.js .slider { display: grid; gap: .2rem; margin-top: .6rem; }
.hint { font-size: .8rem; color: var(--soft); }
input[type=range] { width: 100%; height: 1.75rem; margin: 0; accent-color: var(--strong); cursor: ew-resize; }
.js .view { display: none; }
.js .view.current { display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: .75rem; }
.js .view .small { display: grid; grid-column: 1 / -1; border-top: 1px solid var(--faint); padding-top: .75rem; }
.js .view .beside span { display: block; }
.js .views { cursor: ew-resize; user-select: none; -webkit-user-select: none; }
.wipe { max-width: 27rem; }
.js .wipe .pictures { touch-action: pan-y; cursor: ew-resize; user-select: none; -webkit-user-select: none; }
.wipe .pictures { display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: .75rem; }
.js .wipe .pictures { display: block; position: relative; }
.js .wipe .over { position: absolute; inset: 0; }
.js .wipe .over img { clip-path: inset(0 0 0 var(--border, 50%)); }
.js .wipe .over figcaption { text-align: right; }

/* The sections. */
body { counter-reset: section; }
section { counter-increment: section; }
h2::before { content: counter(section) '\2002'; color: var(--soft); font-weight: 400; }
nav { border-block: 1px solid var(--rule); margin: 2.5rem 0 0; padding: .7rem 0; font-size: .9rem; }
nav ul { display: flex; flex-wrap: wrap; gap: .25rem 1.4rem; list-style: none; margin: 0; padding: 0; }
nav a { text-decoration: none; } nav a:hover { text-decoration: underline; }
section { padding: 2.75rem 0; border-bottom: 1px solid var(--rule); }
.lead { color: var(--soft); font-size: .9rem; line-height: 1.5; }
.content { min-width: 0; }
.content ul { padding-left: 1.1rem; margin: 0 0 1rem; max-width: 44rem; }
.content ul li { margin-bottom: .6rem; }
footer { padding-top: 1.5rem; font-size: .8rem; color: var(--soft); }

/* Charts. */
svg { display: block; overflow: visible; }
.chart .rule { stroke: var(--rule); stroke-width: 1; fill: none; vector-effect: non-scaling-stroke; }
.chart .band { fill: var(--band); }
.chart .threshold { stroke: var(--soft); stroke-width: 1.5; stroke-dasharray: 3 3; }
.chart .one { stroke: var(--one); stroke-width: 1.25; opacity: .75; }
.chart .interval { stroke: var(--strong); stroke-width: 4; }
.chart .mean { fill: var(--strong); stroke: var(--paper); stroke-width: 1.5; }
.kept .chart .interval { stroke: var(--keep); } .kept .chart .mean { fill: var(--keep); }
.chart .tick { fill: var(--soft); font-size: 12px; }
.chart .mark { stroke: var(--paper); stroke-width: 1; }
.kind0 { --kind: var(--kind0); } .kind1 { --kind: var(--kind1); } .kind2 { --kind: var(--kind2); } .kind3 { --kind: var(--kind3); }
.chart .mark { fill: var(--kind); }
.scales { display: grid; gap: .5rem; }
.row { display: grid; grid-template-columns: minmax(0, 1fr) auto; gap: 0 1rem; align-items: end; }
.row .name { font-size: .9rem; line-height: 1.3; }
.row small { display: block; }
.row .value { text-align: right; font-size: .95rem; min-width: 6.5rem; line-height: 1.3; }
.row .chart { grid-column: 1 / -1; grid-row: 2; }
.row.axis .name, .row.axis .value, .row .value:empty { display: none; }
.legend {
  display: flex; flex-wrap: wrap; gap: .25rem 1.2rem; font-size: .8rem; line-height: 1.45; color: var(--soft); max-width: none;
  margin-top: 1rem;
}
.key { display: inline-block; width: 14px; height: 10px; margin-right: .25rem; }
.key.band { background: var(--band); height: 14px; vertical-align: -2px; }
.key.threshold { width: 0; height: 14px; border-left: 2px dashed var(--soft); vertical-align: -2px; }
.key.one { width: 0; height: 12px; border-left: 1.5px solid var(--one); vertical-align: -1px; }
.key.mean { width: 11px; height: 11px; border-radius: 50%; background: var(--strong); vertical-align: -1px; }
.key.kind0, .key.kind1, .key.kind2, .key.kind3 { width: 10px; background: var(--kind); }
.key.kind0 { border-radius: 50%; }
.key.kind2 { clip-path: polygon(50% 0, 100% 100%, 0 100%); }
.key.kind3 { transform: rotate(45deg) scale(.85); }
.plot { margin-top: 1.75rem; max-width: 44rem; }
.plot figcaption { padding: 0 0 .8rem; }
.plot .scatter { margin: 0 0 1.6rem 2rem; width: calc(100% - 2rem); }
.multiples { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 15rem), 1fr)); gap: 1.75rem 2rem; }
.multiples figcaption { padding: 0 0 .4rem; color: var(--ink); }
.curve {
  display: grid; grid-template-columns: auto 1fr auto; grid-template-rows: 1fr auto auto; column-gap: .5rem;
  font-size: .75rem; color: var(--soft);
}
.curve .top { grid-area: 1 / 1; align-self: start; line-height: 1; } .curve .bottom { grid-area: 2 / 1; line-height: 1; }
.curve .area { grid-area: 1 / 2 / 3 / 4; border-left: 1px solid var(--rule); border-bottom: 1px solid var(--rule); overflow: hidden; }
.curve .first { grid-area: 3 / 2; padding-top: .2rem; } .curve .last { grid-area: 3 / 3; padding-top: .2rem; }
.curve .line { fill: none; vector-effect: non-scaling-stroke; stroke: var(--strong); stroke-width: 2; stroke-linejoin: round; }
.curve .line.each { stroke: var(--one); stroke-width: 1; opacity: .55; }
.curve .line.dashed { stroke: var(--kind1); stroke-dasharray: 5 4; }

/* Pictures side by side. */
.pairs { display: grid; gap: .4rem; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(5.5rem, 1fr)); gap: .9rem .5rem; }
.pairs.nine .cards { grid-template-columns: repeat(3, minmax(0, 1fr)); max-width: 24rem; }
.sides { font-size: .8rem; color: var(--soft); display: flex; gap: .35em; }
.sides::before { content: 'from above:'; }
.sides span + span::before { content: '·\00a0'; }
.cards figure { display: grid; gap: .3rem; align-content: start; }
.cards img { width: 100%; aspect-ratio: 1; object-fit: cover; }
.maps { display: grid; grid-template-columns: repeat(auto-fit, minmax(6rem, 1fr)); gap: .75rem; max-width: 40rem; }
.maps figure { max-width: 19rem; }
.maps img { width: 100%; }
.how { font-size: .8rem; color: var(--soft); margin-top: .7rem; }
.ramp { display: flex; align-items: center; gap: .6rem; font-size: .8rem; color: var(--soft); margin-top: .6rem; }
.bar { display: inline-block; width: 9rem; height: .6rem; border-radius: 2px; background: var(--heat); }
.bar.signed { background: var(--signed); }

/* Tables and lists. */
.table { overflow-x: auto; margin: 1.25rem 0; }
section .content > .table:first-child { margin-top: 0; }
table { border-collapse: collapse; font-size: .85rem; min-width: 100%; }
caption { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
th, td { text-align: left; vertical-align: top; padding: .45rem .9rem .45rem 0; border-bottom: 1px solid var(--faint); }
thead th { color: var(--soft); font-weight: 500; border-bottom-color: var(--rule); }
tbody th { font-weight: 500; }
tbody th:has(small) { min-width: 10rem; }
tbody th code { white-space: nowrap; }
tbody th small { display: block; font-weight: 400; max-width: 18rem; }
.settings { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 13rem), 1fr)); gap: 0 2rem; font-size: .85rem; margin: 0; }
.settings > div { border-bottom: 1px solid var(--faint); padding: .35rem 0; break-inside: avoid; }
.settings dt { color: var(--soft); font-size: .78rem; }
.settings dd { margin: 0; overflow-wrap: anywhere; }
details summary { cursor: pointer; color: var(--strong); font-size: .85rem; }
details { margin-bottom: .4rem; }
details .settings { padding: .5rem 0 1rem; }
.definition { white-space: pre-wrap; font-size: .8rem; overflow-x: auto; max-width: none; }
.ladder { list-style: none; padding: 0; margin: 0; }
.ladder li { padding: 1.1rem 0; border-top: 1px solid var(--faint); }
.ladder h3 { margin: 0 0 .2rem; font-size: 1rem; }
.tier { display: inline-block; min-width: 2.2rem; color: var(--soft); font-weight: 500; }
.attacker { font-size: .85rem; color: var(--soft); margin-bottom: .3rem; }
.verdict { margin-bottom: .5rem; }

@media (min-width: 46rem) {
  body { padding: 3.5rem 2.5rem 5rem; }
  .row { grid-template-columns: 11rem minmax(0, 1fr) 7rem; align-items: center; }
  .row .chart { grid-column: 2; grid-row: 1; }
  .row .value { grid-column: 3; min-width: 0; }
  .row.axis .name, .row.axis .value, .row .value:empty { display: block; }
  .pairs { grid-template-columns: auto minmax(0, 1fr); gap: .6rem; --card: 6.4rem; }
  .sides { display: grid; align-content: start; gap: .3rem; }
  .sides::before, .sides span + span::before { content: none; }
  .cards { grid-template-columns: repeat(auto-fill, var(--card)); }
  .pairs.nine .cards { grid-template-columns: repeat(3, var(--card)); }
  .sides span { height: var(--card); writing-mode: vertical-rl; transform: rotate(180deg); text-align: center; }
}
@media (min-width: 64rem) {
  .pairs.nine { --card: 4.3rem; }
  .pairs.nine .cards { grid-template-columns: repeat(9, var(--card)); max-width: none; }
  .js .opening { grid-template-columns: minmax(0, 1fr) 27rem; gap: 3.5rem; }
  .js .opening.wide { grid-template-columns: minmax(0, 1fr); }
  section { display: grid; grid-template-columns: 15rem minmax(0, 1fr); gap: 3.5rem; padding: 3.25rem 0; }
  .heading { position: sticky; top: 1.5rem; align-self: start; }
}
@media (prefers-reduced-motion: reduce) { html { scroll-behavior: auto; } }

@page { margin: 16mm 14mm; }
@media print {
  :root {
    color-scheme: light;
    --paper: #fff; --raised: #fff; --ink: #000; --soft: #444; --rule: #bbb; --faint: #ddd; --strong: #0b5fa5; --keep: #2f6f55; --one: #777;
    --band: #e3e7ea; --kind0: #0b5fa5; --kind1: #c4560a; --kind2: #1d7d60; --kind3: #8a5a9e;
  }
  body { padding: 0; max-width: none; font-size: 9.5pt; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  nav, .slider, .js .slider { display: none; }
  .opening, .js .opening { display: block; }
  .onward { display: none; }
  .words { font-size: 11.5pt; }
  .stage { margin-top: 5mm; display: block; }
  /* Every view, in a row: before, after and target below each other. */
  .views, .js .views { display: grid; grid-template-columns: none; grid-auto-flow: column; grid-auto-columns: minmax(0, 1fr); gap: 1mm; }
  .view, .js .view, .js .view.current { display: grid; grid-template-columns: minmax(0, 1fr); gap: 1mm; align-content: start; }
  .view figcaption { font-size: 6pt; padding: 0; }
  .view .small, .js .view .small { display: block; border: 0; padding: 0; }
  .view .beside { font-size: 6pt; line-height: 1.2; } .view .beside span, .js .view .beside span { display: none; }
  .stage > .small { margin-top: 4mm; }
  .js .wipe .pictures { display: grid; }
  .js .wipe .over { position: static; }
  .js .wipe .over img { clip-path: none; }
  .js .wipe .over figcaption { text-align: left; }
  section { display: block; padding: 6mm 0; }
  .settings { grid-template-columns: repeat(3, minmax(0, 1fr)); }
  .multiples { grid-template-columns: repeat(3, minmax(0, 1fr)); }
  .heading { position: static; break-after: avoid; break-inside: avoid; }
  .heading + .content > :first-child { break-before: avoid; }
  h3, .ramp, figcaption { break-after: auto; } h3 { break-after: avoid; }
  figure, .row, .ladder li, tr, .maps, .pairs { break-inside: avoid; }
  .pairs { grid-template-columns: auto minmax(0, 1fr); --card: 21mm; } .pairs.nine { --card: 17mm; }
  .pairs.nine .cards { grid-template-columns: repeat(9, var(--card)); max-width: none; }
  .sides { display: grid; align-content: start; gap: .3rem; }
  .sides::before, .sides span + span::before { content: none; }
  .cards { grid-template-columns: repeat(auto-fill, var(--card)); }
  .sides span { height: var(--card); writing-mode: vertical-rl; transform: rotate(180deg); text-align: center; }
  .table { overflow: visible; }
  a { color: inherit; text-decoration: none; }
}
"""

"use strict";
// JSON, compressed: of a long run it would be megabytes.
const packed = Uint8Array.from(atob(document.getElementById("data").textContent), c => c.charCodeAt(0));
const D = await new Response(new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"))).json();
const $ = id => document.getElementById(id);
const [ROWS, COLS] = D.shape, CELLS = ROWS * COLS, last = D.epochs.length - 1;
const make = (name, text, parent, style) => {
  const node = document.createElement(name);
  if (text !== null) node.textContent = text;
  if (style) node.className = style;
  return parent.appendChild(node);
};
const count = (n, word) => `${n.toLocaleString("en")} ${word}${n === 1 ? "" : "s"}`;
// Rounded down, so that only what is right in every pixel is called 100 %.
const share = n => Math.floor(1000 * n / CELLS + 1e-9) / 10, percent = n => share(n).toFixed(1) + " %";
const mean = values => values.reduce((a, b) => a + b, 0) / values.length;
const RIGHT = program => D.programs[program][0], DRAWS = program => D.programs[program][1];

// ---- Pictures -----------------------------------------------------------------------------------

// The cells of a draw: hexadecimal bits, the first the highest.
const covers = hex => Array.from({length: CELLS}, (_, i) => parseInt(hex[i >> 2], 16) >> (3 - i % 4) & 1);
const masks = D.draws.map(() => null), maskOf = index => masks[index] ??= covers(D.draws[index][2]);

function canvasAfter(draws) {
  const cells = [...D.input];
  draws.forEach(index => maskOf(index).forEach((on, i) => { if (on) cells[i] = D.draws[index][1]; }));
  return cells;
}

// What a canvas shows, for who does not see it.
const NAMES = ["black", "blue", "red", "green", "yellow", "grey", "magenta", "orange", "light blue", "maroon"];
function describe(canvas, words, cells) {
  const counts = NAMES.map((name, i) => [cells.filter(cell => +cell === i).length, name]).filter(([n]) => n);
  canvas.setAttribute("aria-label", `${words}: ${ROWS} rows of ${count(COLS, "cell")}, ` +
    counts.sort((a, b) => b[0] - a[0]).map(([n, name]) => `${n} ${name}`).join(", "));
}

// Twice, so that it shows on any colour.
function stroke(context, draw) {
  for (const [width, colour] of [[3, "#fff"], [1, "#000"]]) {
    context.lineWidth = width; context.strokeStyle = colour;
    context.beginPath(); draw(); context.stroke();
  }
}
const cross = (context, x, y) => stroke(context, () => {
  context.moveTo(x + 4, y + 4); context.lineTo(x + 12, y + 12);
  context.moveTo(x + 12, y + 4); context.lineTo(x + 4, y + 12);
});
const ring = (context, x, y) => stroke(context, () => context.arc(x + 8, y + 8, 4, 0, 7));

// A picture is a list of digits in reading order; outlined and crossed are lists of cells, true or false.
function paint(canvas, cells, outlined, crossed) {
  const size = outlined ? 16 : 1, context = canvas.getContext("2d");
  canvas.width = COLS * size; canvas.height = ROWS * size;
  for (let i = 0; i < cells.length; i++) {
    const x = i % COLS * size, y = Math.floor(i / COLS) * size;
    context.fillStyle = D.palette[+cells[i]];
    context.fillRect(x, y, size, size);
    if (outlined && outlined[i]) {
      context.lineWidth = 3; context.strokeStyle = "#fff"; context.strokeRect(x + 2.5, y + 2.5, size - 5, size - 5);
      context.lineWidth = 1; context.strokeStyle = "#000"; context.strokeRect(x + 3.5, y + 3.5, size - 7, size - 7);
    }
    if (crossed && crossed[i]) cross(context, x, y);
  }
}

// An entry is one program of an epoch: {program, kind, parent}; kind is attempt, kept or child.
const KINDS = {attempt: "attempt", kept: "kept from an earlier epoch", child: "child"};
function entriesOf(E) {
  return {
    attempt: E.attempts.map(program => ({program, kind: "attempt"})),
    kept: E.kept.map(program => ({program, kind: "kept"})),
    child: E.children.map(([program, parent]) => ({program, kind: "child", parent})),
  };
}

// The best first, of each picture the program of fewest draws: entries with cells and times.
function byPicture(entries) {
  const found = new Map(), order = entry => [-RIGHT(entry.program), DRAWS(entry.program).length];
  [...entries].sort((a, b) => order(a)[0] - order(b)[0] || order(a)[1] - order(b)[1]).forEach(entry => {
    const cells = canvasAfter(DRAWS(entry.program)), key = cells.join("");
    if (found.has(key)) found.get(key).times++;
    else found.set(key, {...entry, cells, times: 1});
  });
  return [...found.values()];
}

function pictureButton(entry, lines, parent) {
  const button = make("button", null, parent, `picture ${entry.kind}`);
  paint(make("canvas", null, button, "small"), entry.cells ?? canvasAfter(DRAWS(entry.program)));
  lines.forEach(line => make("span", line, button));
  button.title = "Show its program draw by draw";
  button.setAttribute("aria-label", `${lines.join(", ")}: ${KINDS[entry.kind]}, ${count(DRAWS(entry.program).length, "draw")}`);
  return button;
}

// ---- The chosen program -------------------------------------------------------------------------

// Where a child's draws come from: givers, and for each draw the place of its giver. The parent is
// the first giver; then, as often as needed, the program that holds most of the draws left.
function origins(entry, E) {
  const all = entriesOf(E), parents = [...all.attempt, ...all.kept];
  const draws = DRAWS(entry.program), from = draws.map(() => -1), givers = [];
  const left = giver => draws.filter((draw, i) => from[i] < 0 && DRAWS(giver.program).includes(draw)).length;
  const next = () => parents.reduce((best, each) => left(each) > (best ? left(best) : 0) ? each : best, null);
  const parent = parents.find(each => each.program === entry.parent);  // none: the blank input
  for (let giver = parent || next(); giver; giver = next()) {
    const held = DRAWS(giver.program);
    draws.forEach((draw, i) => { if (from[i] < 0 && held.includes(draw)) from[i] = givers.length; });
    givers.push({...giver, name: giver === parent ? "parent" : `partner ${givers.length + !parent}`});
  }
  return {givers, from};
}

function showFamily(entry, E) {
  const family = $("family");
  family.replaceChildren();
  $("familyText").textContent = "";
  if (entry.kind !== "child") return null;
  const {givers, from} = origins(entry, E);
  givers.forEach((giver, g) => {
    if (g) make("i", "+", family);
    const given = from.filter(place => place === g).length;
    const lines = [giver.name, percent(RIGHT(giver.program)), `gives ${count(given, "draw")}`, KINDS[giver.kind]];
    pictureButton(giver, lines, family).onclick = () => choose(giver, E);
  });
  make("i", "=", family);
  const child = make("figure", null, family, "picture child");
  paint(make("canvas", null, child, "small"), canvasAfter(DRAWS(entry.program)));
  ["child", percent(RIGHT(entry.program)), count(from.length, "draw")].forEach(line => make("span", line, child));
  $("familyText").textContent = "Each draw of a partner made more pixels right." +
    " Where several programs hold the same draw, one of them is shown.";
  return from.map(place => place < 0 ? null : givers[place]);
}

function showStep(draws, step) {
  const outlined = step ? maskOf(draws[step - 1]) : Array(CELLS).fill(0);
  const cells = canvasAfter(draws.slice(0, step));
  paint($("stepped"), cells, outlined, cells.map((cell, i) => +cell !== +D.target[i]));
  describe($("stepped"), `After ${count(step, "draw")}`, cells);
  $("stepNumber").value = `${step} of ${draws.length}`;
  [...$("code").children].forEach((line, i) => line.classList.toggle("now", i === step - 1));
}

function choose(entry, E) {
  const draws = DRAWS(entry.program);
  document.querySelectorAll("#tried button").forEach(button =>
    button.setAttribute("aria-pressed", button.entry.program === entry.program && button.entry.kind === entry.kind));
  $("programText").textContent = `${KINDS[entry.kind]}: ${percent(RIGHT(entry.program))} right` +
    ` (${RIGHT(entry.program)} of ${count(CELLS, "pixel")}), ${count(draws.length, "draw")}`;
  $("programText").className = entry.kind;
  const from = showFamily(entry, E);
  $("code").replaceChildren();
  draws.forEach((index, i) => {
    const line = make("div", null, $("code"));
    if (from) make("b", from[i] ? from[i].name : "", line, from[i] && from[i].name !== "parent" ? "child" : "kept");
    make("span", D.draws[index][0], line, "call");
    line.onclick = () => { $("step").value = i + 1; $("step").oninput(); };
  });
  stepper.stop();
  $("step").max = draws.length;  // first: a value is held to the bound that there is
  $("step").value = draws.length;
  $("step").oninput = () => showStep(draws, +$("step").value);
  $("step").oninput();
}

// ---- Charts -------------------------------------------------------------------------------------

const WIDTH = 340, HEIGHT = 190, LEFT = 42, RIGHT_END = 330, TOP = 20, BOTTOM = 152;

// Round numbers from low to high, about five.
function ticks(low, high, whole) {
  const size = 10 ** Math.floor(Math.log10((high - low) / 4 || 1));
  let step = [1, 2, 5, 10].map(factor => factor * size).find(each => (high - low) / each <= 5);
  if (whole) step = Math.max(step, 1);
  const first = Math.floor(low / step + 1e-9), end = Math.max(Math.ceil(high / step - 1e-9), first + 1);
  return Array.from({length: end - first + 1}, (_, i) => +((first + i) * step).toPrecision(6));
}

const text = (x, y, words, anchor, rest = "") => `<text x="${x}" y="${y}" text-anchor="${anchor}" ${rest}>${words}</text>`;

// Axes with ticks and names; x and y turn values into places.
function frame(xs, xLabels, xName, ys, yName, x) {
  const y = value => BOTTOM - (value - ys[0]) / (ys[ys.length - 1] - ys[0]) * (BOTTOM - TOP);
  const lines = ys.map(v => `<path class="axis" d="M${LEFT} ${y(v)}H${RIGHT_END}"/>` + text(LEFT - 5, y(v) + 4, v, "end"));
  const marks = xs.map((v, i) => `<path class="axis" d="M${x(v)} ${BOTTOM}v4"/>` + text(x(v), BOTTOM + 15, xLabels[i], "middle"));
  const names = text((LEFT + RIGHT_END) / 2, HEIGHT - 6, xName, "middle") +
    text(0, 0, yName, "middle", `transform="translate(10 ${(TOP + BOTTOM) / 2}) rotate(-90)"`);
  return {y, svg: lines.join("") + marks.join("") + names};
}

function figure(parent, title, legend, inside) {
  const caption = legend.map(([name, style], i) => `<span class="mark ${style}">${i % 2 ? "■" : "●"} ${wordHtml(name)}</span>`).join("");
  parent.innerHTML = `<svg viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" aria-label="${title}">${inside}</svg>` +
    `<figcaption>${title}: ${caption}</figcaption>`;
}

// ---- Words --------------------------------------------------------------------------------------

// The list on top of the page tells what each means; here a word finds its entry.
const MEANINGS = new Map([...document.querySelectorAll("#words dt")].map(dt => [dt.textContent, dt.nextElementSibling]));
const ENTRY = {attempts: "attempt", children: "child", "best attempt": "attempt", "best child": "child", "mean attempt": "attempt",
  "mean draws a program": "draws", "draws a program": "draws", "distinct picture": "distinct", "distinct pictures": "distinct",
  run: "programs run", sampled: "attempt", "loss, nats a token": "loss", "kept from earlier epochs": "kept"};
MEANINGS.forEach((dd, name) => { dd.id = `word-${name.replaceAll(" ", "-")}`; });
function wordHtml(name) {
  const meaning = MEANINGS.get(ENTRY[name] || name);
  return meaning ? `<button class="word" aria-describedby="${meaning.id}">${name}</button>` : name;
}
document.addEventListener("click", event => {
  const button = event.target.closest?.(".word"), tip = $("tip");
  if (!button || !tip.showPopover) return;
  tip.textContent = $(button.getAttribute("aria-describedby")).textContent.replace(/\s+/g, " ");
  tip.showPopover();
  const at = button.getBoundingClientRect(), own = tip.getBoundingClientRect();
  tip.style.left = `${Math.max(8, Math.min(at.left, innerWidth - own.width - 8))}px`;
  tip.style.top = `${at.bottom + own.height + 8 < innerHeight ? at.bottom + 6 : Math.max(8, at.top - own.height - 6)}px`;
});

// Lines with a marker an epoch, null where there is no value; few epochs have their values written.
function curve(title, name, lines, low, digits) {
  lines = lines.filter(([, , values]) => values.some(v => v !== null));
  const all = lines.flatMap(([, , values]) => values).filter(v => v !== null);
  const ys = ticks(low(Math.min(...all)), Math.max(...all, low(0) + .1), digits === 0);
  const x = epoch => last ? LEFT + 12 + epoch / last * (RIGHT_END - LEFT - 24) : (LEFT + RIGHT_END) / 2 - 40;
  const step = Math.ceil((last + 1) / 10), xs = D.epochs.map((_, e) => e).filter(e => e % step === 0);
  const {y, svg} = frame(xs, xs.map(e => e + 1), "epoch", ys, name, x);
  const size = last > 30 ? 1.7 : 3.5, write = (v, what) => v.toFixed(digits) + (last ? "" : ` ${what}`);
  const marks = lines.map(([what, style, values], i) => {
    const points = values.map((v, e) => v === null ? "" : (i % 2
      ? `<rect x="${x(e) - size}" y="${y(v) - size}" width="${2 * size}" height="${2 * size}"`
      : `<circle cx="${x(e)}" cy="${y(v)}" r="${size}"`) +
      ` class="point" fill="currentColor"><title>epoch ${e + 1}, ${what}: ${v.toFixed(digits)}</title></${i % 2 ? "rect" : "circle"}>`);
    const path = values.map((v, e) => v === null ? "" : `${e && values[e - 1] !== null ? "L" : "M"}${x(e)} ${y(v)}`).join("");
    return `<g class="${style}"><path d="${path}" fill="none" stroke="currentColor" stroke-width="1.5"/>${points.join("")}</g>`;
  });
  const values = last > 4 ? [] : D.epochs.map((_, e) => {
    let floor = 0;  // so that no two values of an epoch lie upon each other
    return lines.map(([what, style, values]) => [values[e], what, style]).filter(([v]) => v !== null)
      .sort((a, b) => b[0] - a[0]).map(([v, what, style]) => {
        floor = Math.max(y(v) + (last ? -7 : 4), floor + 12, TOP - 7);
        return `<g class="${style}">${text(x(e) + (last ? 0 : 9), floor, write(v, what), last ? "middle" : "start", 'class="value"')}</g>`;
      }).join("");
  });
  figure(make("figure", null, $("curves"), "plot"), title, lines,
    `${svg}<path class="cursor" data-at="${D.epochs.map((_, e) => x(e)).join(" ")}"/>${marks.join("")}${values.join("")}`);
}

// How many programs of each kind by pixels right; what is right in every pixel has its own bar.
function histogram(groups) {
  const BINS = 20, bins = groups.map(([, , entries]) => {
    const bin = Array(BINS + 1).fill(0);
    entries.forEach(entry => bin[Math.floor(RIGHT(entry.program) / CELLS * BINS + 1e-9)]++);
    return bin;
  });
  const x = v => LEFT + v / 105 * (RIGHT_END - LEFT), width = x(5) - x(0), bar = (width - 2) / groups.length;
  const {y, svg} = frame([0, 20, 40, 60, 80, 100], [0, 20, 40, 60, 80, 100], "pixels right, %",
                         ticks(0, Math.max(1, ...bins.flat()), true), "programs", x);
  const bars = bins.map((bin, g) => `<g class="${groups[g][1]}">` + bin.map((n, i) => n &&
    `<rect x="${x(5 * i) + 1 + g * bar}" width="${bar}" y="${y(n)}" height="${BOTTOM - y(n)}" fill="currentColor">` +
    `<title>${count(n, "program")}</title></rect>`).filter(Boolean).join("") + "</g>");
  figure($("histogram"), "Programs by pixels right", groups, svg + bars.join(""));
}

// ---- An epoch -----------------------------------------------------------------------------------

function showEpoch(epoch) {
  const E = D.epochs[epoch], all = entriesOf(E);
  $("number").value = `${epoch + 1} of ${last + 1}`;
  const many = n => n.toLocaleString("en"), s = n => n === 1 ? "" : "s";
  $("counts").innerHTML = [`${count(E.attempts.length, "program")} ${wordHtml("sampled")}`,
    E.kept.length ? `${count(E.kept.length, "program")} ${wordHtml("kept from earlier epochs")}` : "",
    E.run > E.attempts.length ? `${many(E.run)} ${wordHtml("run")}` : "",
    `${many(E.distinct)} ${wordHtml(`distinct picture${s(E.distinct)}`)}`,
    `${many(E.new)} ${wordHtml("new")}`, `${many(E.trained)} ${wordHtml("trained on")}`,
    `${E.draws.toFixed(1)} ${wordHtml("draws a program")}`].filter(Boolean).join(", ") + ".";
  histogram([["attempts", "attempt", all.attempt], ["children", "child", all.child]].filter(([, , entries]) => entries.length));
  $("tried").replaceChildren();
  const titles = {attempt: "Attempts", kept: "Kept from earlier epochs", child: "Children"};
  let best = null;
  Object.entries(all).forEach(([kind, entries]) => {
    if (!entries.length) return;
    const pictures = byPicture(entries);
    // Of equals the newest is more telling: a child rather than one kept from an earlier epoch.
    const gain = best ? RIGHT(pictures[0].program) - RIGHT(best.program) : 1;
    if (gain > 0 || gain === 0 && best.kind === "kept") best = pictures[0];
    make("h3", `${titles[kind]}: ${count(entries.length, "program")}, ${count(pictures.length, "picture")}`, $("tried"), kind);
    const box = make("div", null, $("tried"), "pictures");
    pictures.forEach(entry => {
      const button = pictureButton(entry, [percent(RIGHT(entry.program)) + (entry.times > 1 ? ` ×${entry.times}` : "")], box);
      button.entry = entry;
      button.onclick = () => { choose(entry, E); $("program").scrollIntoView({block: "nearest"}); };
    });
  });
  paint($("best"), best.cells);
  describe($("best"), "Best of the epoch", best.cells);
  showMissed(all);
  $("bestText").textContent = `best of the epoch: ${percent(RIGHT(best.program))}, ${KINDS[best.kind]}`;
  document.querySelectorAll(".cursor").forEach(line =>
    line.setAttribute("d", `M${line.dataset.at.split(" ")[epoch]} ${TOP}V${BOTTOM}`));
  choose(best, E);
}

// Which cells of the target how many attempts get right: a cross where none does, a ring where then
// another program of the epoch does.
function showMissed(all) {
  const right = kind => {
    const times = Array(CELLS).fill(0);
    all[kind].forEach(entry => canvasAfter(DRAWS(entry.program)).forEach((cell, i) => { times[i] += +cell === +D.target[i]; }));
    return times;
  };
  const times = right("attempt"), others = [right("kept"), right("child")];
  const canvas = $("missed"), context = canvas.getContext("2d"), size = 16;
  canvas.width = COLS * size; canvas.height = ROWS * size;
  let missed = 0, found = 0;
  times.forEach((n, i) => {
    const x = i % COLS * size, y = Math.floor(i / COLS) * size, part = n / all.attempt.length;
    context.fillStyle = `rgb(${[[242, 11], [242, 79], [242, 138]].map(([a, b]) => Math.round(a + part * (b - a))).join()})`;
    context.fillRect(x, y, size, size);
    if (n) return;
    missed++;
    if (others.some(other => other[i])) { found++; ring(context, x, y); } else cross(context, x, y);
  });
  const parts = others.flat().some(Boolean) || all.child.length
    ? `: ✕ ${missed - found} that no program does, ○ ${found} that a child or kept program does` : ", ✕";
  $("missedText").textContent = "cells that are right: the darker, in the more attempts. " +
    (missed ? `${count(missed, "cell")} that no attempt gets right${parts}.` : "Every cell is right in some attempt.");
  canvas.setAttribute("aria-label", $("missedText").textContent);
}

// A button that moves a slider to its end.
function player(button, slider, milliseconds) {
  let timer = 0;
  const stop = () => { clearInterval(timer); timer = 0; button.textContent = "Play"; };
  button.onclick = () => {
    if (timer) return stop();
    if (slider.value === slider.max) { slider.value = 0; slider.oninput(); }
    button.textContent = "Stop";
    timer = setInterval(() => {
      slider.value = +slider.value + 1;
      slider.oninput();
      if (slider.value === slider.max) stop();
    }, milliseconds());
  };
  return {stop};
}

$("tried").onkeydown = event => {
  const way = {ArrowLeft: -1, ArrowRight: 1}[event.key], buttons = [...$("tried").querySelectorAll("button")];
  const next = way && buttons[buttons.indexOf(document.activeElement) + way];
  if (!next) return;
  event.preventDefault();
  next.focus();
  choose(next.entry, D.epochs[+$("epoch").value]);
};

// ---- The run ------------------------------------------------------------------------------------

const top_ = programs => programs.length ? Math.max(...programs.map(RIGHT)) : null;
const bests = kind => D.epochs.map(E => top_(entriesOf(E)[kind].map(entry => entry.program)));
const shares = values => values.map(v => v === null ? null : share(v));
const attempts = bests("attempt"), children = bests("child");
const means = D.epochs.map(E => mean(E.attempts.map(p => 100 * RIGHT(p) / CELLS)));
const column = name => D.epochs.map(E => E[name]);
curve("Pixels right", "pixels right, %", [["best attempt", "attempt", shares(attempts)],
  ["best child", "child", shares(children)], ["mean attempt", "mean", means]], v => Math.min(90, v - 2), 1);
curve("Different pictures", "pictures", [["distinct", "distinct", column("distinct")], ["new", "new", column("new")]], () => 0, 0);
curve("Length of the programs", "draws", [["mean draws a program", "mean", column("draws")]], () => 0, 1);

const sampled = D.epochs.reduce((sum, E) => sum + E.attempts.length, 0);
const run = column("run").reduce((a, b) => a + b, 0);
const record = Math.max(...attempts, ...children.filter(v => v !== null));
$("summary").textContent = `${D.solved ? "Solved" : `Not solved (best ${percent(record)})`} after` +
  ` ${count(last + 1, "epoch")}, ${count(sampled, "program")} sampled${run > sampled ? `, ${run.toLocaleString("en")} run` : ""}` +
  `${$("seconds") ? `, in ${$("seconds").textContent}` : ""}${D.stall ? `; ${D.stall.words}` : ""}.`;

const numbers = {"epoch": E => D.epochs.indexOf(E) + 1, "sampled": E => E.attempts.length, "kept": E => E.kept.length,
  "children": E => E.children.length, "run": E => E.run.toLocaleString("en"),
  "best attempt": E => percent(top_(E.attempts)), "best child": E => E.children.length ? percent(top_(E.children.map(([p]) => p))) : "–",
  "distinct": E => E.distinct, "new": E => E.new, "trained on": E => E.trained, "draws": E => E.draws.toFixed(1),
  "loss, nats a token": E => E.loss === null ? "not finite" : E.trained ? E.loss.toFixed(3) : "–"};
if (D.epochs.every(E => !E.children.length && !E.kept.length))  // not recombined
  ["kept", "children", "run", "best child"].forEach(name => delete numbers[name]);
const head = make("tr", null, $("numbers"));
Object.keys(numbers).forEach(name => { make("th", null, head).innerHTML = wordHtml(name); });
D.epochs.forEach(E => {
  const line = make("tr", null, $("numbers"));
  Object.values(numbers).forEach(value => make("td", value(E), line));
});
$("numberBox").open = last < 10;

$("final").textContent = D.final;
$("finalText").textContent = count(D.length, "draw") + (D.before ? `, ${D.before} before it was shortened` : "") +
  `. Any program of this picture has at least ${D.least}.`;
$("copy").onclick = async () => {
  const range = document.createRange();
  range.selectNodeContents($("final"));
  getSelection().removeAllRanges(); getSelection().addRange(range);
  try { await navigator.clipboard.writeText(D.final); } catch { document.execCommand("copy"); }
  $("copy").textContent = "Copied";
};
Object.entries(D.about).forEach(([name, value]) => {
  const line = make("tr", null, $("about"));
  make("td", name, line);
  make("td", typeof value === "object" ? JSON.stringify(value) : value, line);
});
paint($("target"), D.target, D.stall && [], D.stall?.cells);
if (D.stall?.cells.some(Boolean)) $("targetText").textContent = "target; ✕: right in no program of the last epochs";
describe($("target"), "Target", [...D.target]);

// ---- Downloads ----------------------------------------------------------------------------------

function download(blob, ending) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = D.name + ending;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}
$("getProgram").onclick = () => download(new Blob([D.script], {type: "text/x-python"}), ".py");
$("getPicture").onclick = () => {
  const small = document.createElement("canvas"), canvas = document.createElement("canvas");
  paint(small, D.picture);
  canvas.width = COLS * 32; canvas.height = ROWS * 32;
  const context = canvas.getContext("2d");
  context.imageSmoothingEnabled = false;
  context.drawImage(small, 0, 0, canvas.width, canvas.height);
  canvas.toBlob(blob => download(blob, ".png"));
};
$("getNumbers").onclick = () => {
  const part = program => program === null ? "" : RIGHT(program) / CELLS, best = E => Math.max(...E.attempts.map(RIGHT)) / CELLS;
  const columns = {epoch: (E, e) => e + 1, sampled: E => E.attempts.length, kept: E => E.kept.length, children: E => E.children.length,
    run: E => E.run, best_attempt: best, mean_attempt: E => mean(E.attempts.map(part)),
    best_child: E => E.children.length ? Math.max(...E.children.map(([p]) => part(p))) : "",
    distinct: E => E.distinct, new: E => E.new, trained_on: E => E.trained, draws: E => E.draws, loss: E => E.loss ?? ""};
  const lines = D.epochs.map((E, e) => Object.values(columns).map(value => value(E, e)).join());
  download(new Blob([[Object.keys(columns).join(), ...lines, ""].join("\n")], {type: "text/csv"}), ".csv");
};
$("getData").onclick = () => download(new Blob([JSON.stringify(D)], {type: "application/json"}), ".json");
$("epoch").max = last;
$("epoch").value = last;
$("epochs").hidden = last === 0;
$("epoch").oninput = () => showEpoch(+$("epoch").value);
player($("play"), $("epoch"), () => Math.min(Math.max(6000 / last, 250), 1200));
const stepper = player($("playSteps"), $("step"), () => Math.min(Math.max(6000 / $("step").max, 100), 600));
showEpoch(last);
document.documentElement.dataset.ready = "";

"use strict";
// Asks the server once a second how the race stands, and draws it. Everything from the race enters as text, never as HTML.
const COLOURS = 8, token = new URLSearchParams(location.hash.slice(1)).get("token") || "";
const known = [], colours = new Map();
const at = (id) => document.getElementById(id);
let lost = 0;

function svg(name, attributes, text) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}
function colour(recipe) {
  if (!colours.has(recipe)) colours.set(recipe, "c" + (colours.size % COLOURS));
  return colours.get(recipe);
}
const digits = (value) => value === null ? "never" : Number(value.toPrecision(3)).toString();
const times = (value) => value === null ? "never" : value.toFixed(2) + "x";
function ratio(row) {
  if (row.ratio === null) return row.low === 0 ? "unknown yet" : "never";
  return row.ratio === 0 ? "only it arrives" : `${times(row.ratio)} [${times(row.low)}, ${times(row.high)}]`;
}
function duration(seconds) {
  const whole = Math.round(seconds), hours = Math.floor(whole / 3600), minutes = Math.floor(whole % 3600 / 60);
  return hours ? `${hours} h ${minutes} min` : minutes ? `${minutes} min ${whole % 60} s` : `${whole} s`;
}
const width = () => Math.max(280, at("curves").clientWidth || 600);

function standing(rows) {
  const names = [...new Set(rows.map((row) => row.recipe))], wide = width(), tall = 30 + names.length * 64;
  if (!names.length) {
    at("standing").replaceChildren(Object.assign(document.createElement("p"), {textContent: "Nobody has raced the baseline yet."}));
    return;
  }
  const ends = rows.flatMap((row) => [row.low, row.ratio, row.high]).filter((value) => value !== null && value > 0);
  const low = Math.min(0.8, ...ends.map((value) => Math.max(value, 1 / 32))) / 1.05;
  const high = Math.max(1.25, ...ends.map((value) => Math.min(value, 32))) * 1.05;
  const x = (value) => value === null ? wide - 8 : value <= 0 ? 4 : Math.min(wide - 8, Math.max(4, 4 + (wide - 12) * Math.log(value / low) / Math.log(high / low)));
  const chart = svg("svg", {viewBox: `0 0 ${wide} ${tall}`, role: "img", "aria-label": "Steps ratio of every contender with its interval"});
  let right = -Infinity;
  for (const tick of [0.1, 0.2, 0.3, 0.5, 0.7, 1, 1.5, 2, 3, 5, 10]) {
    if (tick < low || tick > high) continue;
    chart.append(svg("line", {class: tick === 1 ? "one" : "grid", x1: x(tick), x2: x(tick), y1: 0, y2: tall - 20}));
    if (x(tick) - right < 34 || x(tick) < 14 || x(tick) > wide - 14) continue;
    right = x(tick);
    chart.append(svg("text", {x: x(tick), y: tall - 4, "text-anchor": "middle"}, tick + "x"));
  }
  names.forEach((name, place) => {
    const mine = rows.filter((row) => row.recipe === name).sort((a, b) => a.seeds - b.seeds), last = mine[mine.length - 1];
    const shown = colour(last.tuned_recipe), y = 16 + place * 64;
    chart.append(svg("text", {class: "name", x: 4, y}, name.length > wide / 9 ? name.slice(0, wide / 9 - 1) + "…" : name));
    chart.append(svg("text", {x: 4, y: y + 15}, `${ratio(last)} on ${last.seeds} seed${last.seeds === 1 ? "" : "s"}`));
    mine.forEach((row, number) => {
      const newest = row === last, height = y + (newest ? 27 : 34 + 6 * (number + 1) / mine.length);
      chart.append(svg("line", {class: shown, x1: x(row.low), x2: x(row.high), y1: height, y2: height,
        "stroke-width": newest ? 4 : 1.5, "stroke-opacity": newest ? 1 : 0.35}));
      if (newest && ratio(row) !== "unknown yet") chart.append(svg("circle", {class: shown, cx: x(row.ratio), cy: height, r: 6}));
    });
  });
  at("standing").replaceChildren(chart);
}

function curves(state) {
  const racing = known.filter((curve) => curve.purpose === "racing"), chosen = racing.length ? racing : known.slice();
  known.forEach((curve) => colour(curve.recipe));  // the baseline comes first: its runs set the targets
  const fits = (run) => run.steps.length > 1 && (racing.length ? run.purpose === "racing" : run.purpose !== "a/a");
  for (const run of state.running.filter(fits)) {
    chosen.push({recipe: run.cell.split(" | ")[0], purpose: run.purpose, steps: run.steps, values: run.values});
  }
  const shown = (curve) => curve.purpose === "tuning" ? "cq" : colour(curve.recipe);
  const points = chosen.flatMap((curve) => curve.values.filter((value) => value !== null));
  const now = state.running.length ? ", and those that run now" : "";
  at("curves-note").textContent = racing.length ? `${racing.length} racing runs${now}.`
    : known.length ? `${known.length} runs of the baseline that set the targets${now}.`
    : chosen.length ? "Tuning: the runs that run now." : "None yet: tuning comes first.";
  if (!points.length) { at("curves").replaceChildren(); at("legend").replaceChildren(); return; }
  const sorted = points.slice().sort((a, b) => a - b), starts = chosen.map((curve) => curve.values[0]).filter((value) => value !== null);
  const low = sorted[0], high = Math.max(...starts, sorted[Math.floor(0.9 * (sorted.length - 1))]), span = high - low || 1;
  const wide = width(), tall = 280, last = Math.max(1, ...chosen.map((curve) => curve.steps[curve.steps.length - 1]));
  const x = (step) => 46 + (wide - 54) * step / last, y = (value) => 10 + (tall - 40) * (1 - (Math.min(value, high + 0.03 * span) - low) / span);
  const chart = svg("svg", {viewBox: `0 0 ${wide} ${tall}`, role: "img", "aria-label": "Learning curves"});
  for (let part = 0; part <= 4; part++) {
    const value = low + span * part / 4;
    chart.append(svg("line", {class: "grid", x1: 46, x2: wide - 8, y1: y(value), y2: y(value)}));
    chart.append(svg("text", {x: 40, y: y(value) + 4, "text-anchor": "end"}, digits(value)));
    chart.append(svg("text", {x: x(last * part / 4), y: tall - 6, "text-anchor": part === 4 ? "end" : part ? "middle" : "start"}, Math.round(last * part / 4)));
  }
  for (const curve of chosen) {
    const line = curve.steps.map((step, k) => curve.values[k] === null ? null : `${x(step).toFixed(1)},${y(curve.values[k]).toFixed(1)}`);
    chart.append(svg("polyline", {class: shown(curve), points: line.filter(Boolean).join(" ")}));
  }
  at("curves").replaceChildren(chart);
  at("legend").replaceChildren(...[...new Map(chosen.map((curve) => [curve.recipe, shown(curve)]))].map(([recipe, drawn]) => {
    const item = document.createElement("li"), mark = svg("svg", {viewBox: "0 0 24 8", "aria-hidden": "true"});
    mark.append(svg("line", {class: drawn, x1: 0, x2: 24, y1: 4, y2: 4, "stroke-width": 4}));
    item.append(mark, recipe);
    return item;
  }));
}

function draw(state) {
  known.length = state.curves_from;
  known.push(...state.curves);
  document.title = `${state.name} · sooner`;
  at("title").textContent = `Race on ${state.name}`;
  const total = state.done + state.left, running = state.alive && !state.finished;
  at("status").textContent = state.finished ? "The race is over." : running
    ? `${state.phase}: ${state.cells.done} of ${state.cells.of} cells; ${state.cells_kept} kept in all`
    : state.error ? `The race was stopped (${state.error}); ${state.cells_kept} cells are kept.`
    : `Nobody runs this race now; ${state.cells_kept} cells are kept.`;
  at("bar").value = state.finished ? 1 : total > 0 ? state.done / total : 0;
  const left = state.seconds_left === null ? "" : `${state.phase === "tuning" ? "at least" : "about"} ${duration(state.seconds_left)} left`;
  at("estimate").textContent = running ? left : "";
  at("report").hidden = !state.finished;
  at("stop").hidden = !running || !token;
  standing(state.standing);
  curves(state);
  at("running").replaceChildren(...state.running.map((run) => {
    const item = document.createElement("li"), bar = document.createElement("progress"), text = document.createElement("span");
    bar.value = run.fraction;
    const value = run.values.length ? `, ${state.metric} ${digits(run.values[run.values.length - 1])}` : "";
    text.textContent = run.cell.split(" | ").join(", ") + value;
    item.append(text, bar);
    return item;
  }));
  at("now").hidden = !state.running.length;
  at("verdicts").hidden = !state.verdicts.length;
  at("verdict-list").replaceChildren(...state.verdicts.map((one) => {
    const item = document.createElement("li"), word = Object.assign(document.createElement("strong"), {textContent: `${one.recipe}: ${one.verdict}`});
    item.append(word, document.createElement("br"), one.sentence);
    return item;
  }));
  at("failures").hidden = !state.failed.length;
  at("failed").replaceChildren(...state.failed.map((one) => Object.assign(document.createElement("li"), {textContent: `${one.cell}: ${one.cause}`})));
  document.documentElement.dataset.drawn = String(Number(document.documentElement.dataset.drawn || 0) + 1);
}

async function look() {
  try {
    const answer = await fetch(`state?have=${known.length}`, {cache: "no-store"});
    const state = await answer.json();
    if (!answer.ok) throw new Error(state.error);
    draw(state);
    lost = 0;
  } catch (error) {
    lost += 1;
    at("status").textContent = `No answer (${error.message}); asking again. The race itself is not affected.`;
  }
  setTimeout(look, Math.min(10, 1 + lost) * 1000);
}

at("stop").addEventListener("click", async () => {
  const button = at("stop");
  if (!button.dataset.sure) {
    button.dataset.sure = "yes";
    button.textContent = "Really stop? Finished cells are kept";
    setTimeout(() => { delete button.dataset.sure; button.textContent = "Stop the race"; }, 5000);
    return;
  }
  try {
    const answer = await fetch("stop", {method: "POST", headers: {"X-Token": token}});
    at("said").textContent = answer.ok ? "Told to stop; the same command goes on from here." : (await answer.json()).error;
  } catch (error) {
    at("said").textContent = `No answer (${error.message}).`;
  }
});
look();

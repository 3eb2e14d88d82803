"use strict";
// What giemsa/smear/counting.py computes, from the same draws, so that the count follows a person's decisions.
const GRID = 480, LEVEL = 0.95, EXACT = 30;
const data = JSON.parse(document.getElementById("data").textContent);

function erfc(x) { // Numerical Recipes, relative error below 1.2e-7
  const z = Math.abs(x), t = 1 / (1 + 0.5 * z);
  const r = t * Math.exp(-z * z - 1.26551223 + t * (1.00002368 + t * (0.37409196 + t * (0.09678418 + t * (-0.18628806 +
    t * (0.27886807 + t * (-1.13520398 + t * (1.48851587 + t * (-0.82215223 + t * 0.17087277)))))))));
  return x >= 0 ? r : 2 - r;
}

function below(k, mean, effect) { // P(X <= k), X with this mean and `effect` times Poisson's variance
  const scaled = Math.max(mean / effect, 1e-12), most = k / effect;
  if (most < EXACT) {
    let sum = 0, logFactorial = 0;
    for (let i = 0; i <= Math.trunc(most); i++) {
      if (i > 1) logFactorial += Math.log(i);
      sum += Math.exp(i * Math.log(scaled) - scaled - logFactorial);
    }
    return sum;
  }
  const z = 3 * Math.sqrt(most + 1) * (Math.cbrt(scaled / (most + 1)) - 1 + 1 / (9 * (most + 1)));
  return 0.5 * erfc(z / Math.SQRT2);
}

const mean = (values) => values.reduce((a, b) => a + b, 0) / values.length;

function criticalCount(n, rates) {
  const missed = (k) => mean(rates.falseAlarms.map((f) => below(k, f * n, rates.effect)));
  let low = -1, high = 1;
  while (missed(high) < LEVEL) { low = high; high *= 2; }
  while (high - low > 1) {
    const middle = Math.floor((low + high) / 2);
    if (missed(middle) < LEVEL) low = middle; else high = middle;
  }
  return high;
}

function detectionLimit(n, rates) {
  const critical = criticalCount(n, rates);
  const missed = (pi) => mean(rates.falseAlarms.map((f, i) =>
    below(critical, n * (pi * rates.sensitivity[i] + (1 - pi) * f), rates.effect)));
  if (missed(1) > 1 - LEVEL) return 1;
  let low = 0, high = 1;
  for (let i = 0; i < 40; i++) {
    const middle = (low + high) / 2;
    if (missed(middle) > 1 - LEVEL) low = middle; else high = middle;
  }
  return high;
}

function posterior(n, called, rates) {
  const k = called / rates.effect, all = n / rates.effect, logs = [], draws = rates.falseAlarms.length;
  let top = -Infinity;
  for (let i = 0; i < GRID; i++) {
    const root = (i + 0.5) / GRID, pi = root ** 3, row = new Float64Array(draws);
    for (let j = 0; j < draws; j++) {
      const share = Math.min(1 - 1e-12, Math.max(1e-12, pi * rates.sensitivity[j] + (1 - pi) * rates.falseAlarms[j]));
      row[j] = k * Math.log(share) + (all - k) * Math.log1p(-share);
      if (row[j] > top) top = row[j];
    }
    logs.push(row);
  }
  const weights = logs.map((row, i) => row.reduce((a, b) => a + Math.exp(b - top), 0) * ((i + 0.5) / GRID) ** 2);
  const sum = weights.reduce((a, b) => a + b, 0);
  return weights.map((w) => w / sum);
}

function quantile(weights, level) {
  let before = 0;
  for (let i = 0; i < GRID; i++) {
    if (before + weights[i] >= level) {
      const low = (i / GRID) ** 3, high = ((i + 1) / GRID) ** 3;
      return low + (high - low) * (weights[i] > 0 ? (level - before) / weights[i] : 0);
    }
    before += weights[i];
  }
  return 1;
}

function count(n, called, confirmed, rejected) {
  const open = called ? (called - confirmed - rejected) / called : 1;
  const rates = { sensitivity: data.sensitivity, falseAlarms: data.false_alarms.map((f) => f * open),
    effect: data.design_effect };
  const positive = called - rejected, weights = posterior(n, positive, rates);
  const told = confirmed > 0 || positive > criticalCount(n, rates);
  const low = told ? quantile(weights, (1 - LEVEL) / 2) : 0;
  const high = quantile(weights, told ? 1 - (1 - LEVEL) / 2 : LEVEL);
  const f = mean(rates.falseAlarms), gain = mean(rates.sensitivity) - f;
  const value = Math.min(Math.max(gain > 0 ? (positive / n - f) / gain : 0, low), high);
  return { called: positive, confirmed, rejected, value, low, high, told, rulesOut: quantile(weights, LEVEL),
    limit: detectionLimit(n, rates) };
}

function percent(share) {
  const v = 100 * share;
  if (v >= 10) return `${v.toFixed(0)} %`;
  if (v >= 1 || v === 0) return `${v.toFixed(1)} %`;
  return v >= 1e-4 ? `${Number(v.toPrecision(2))} %` : "0.0001 %";
}

const plural = (n, noun) => `${n.toLocaleString("en")} ${noun}${n === 1 ? "" : "s"}`;
const keyOf = (c) => JSON.stringify([c.field, c.x0, c.y0, c.x1, c.y1]);
const shown = new Map(data.cells.map((c, i) => [keyOf(c), i]));
const extra = new Map(); // cells decided on in a field's picture that are not among the suspicious ones
const complete = new Set();

function totals() {
  let called = data.called_elsewhere, confirmed = 0, rejected = 0;
  for (const c of [...data.cells, ...extra.values()]) {
    const counts = c.relative_logit >= data.cut || c.decision === "confirmed";
    if (counts && !(extra.has(keyOf(c)) && c.relative_logit >= data.cut)) called += 1;
    if (c.decision === "confirmed") confirmed += 1;
    if (counts && c.decision === "rejected") rejected += 1;
  }
  return { called, confirmed, rejected };
}

function update() {
  const { called, confirmed, rejected } = totals(), n = data.red_cells;
  data.cells.forEach((c, i) => {
    const figure = document.getElementById(`cell${i}`);
    figure.classList.toggle("confirmed", c.decision === "confirmed");
    figure.classList.toggle("rejected", c.decision === "rejected");
    figure.querySelector(".decision").textContent =
      c.decision === "confirmed" ? "parasite" : c.decision === "rejected" ? "no parasite" : "";
  });
  document.querySelectorAll("rect").forEach((r) => {
    const cell = cellOf(r);
    r.classList.toggle("confirmed", cell?.decision === "confirmed");
    r.classList.toggle("rejected", cell?.decision === "rejected");
  });
  const decided = confirmed + rejected;
  document.getElementById("progress").textContent =
    `${plural(called - decided, "called cell")} left to look at; ${confirmed} confirmed, ${rejected} rejected.`;
  if (!n) return;
  const result = count(n, called, confirmed, rejected);
  window.giemsaCount = result;
  const headline = document.getElementById("headline");
  const first = result.called === 0 ? "No parasite found" :
    `${plural(result.called, "cell")} called parasitized, no more than false alarms explain,`;
  headline.textContent = result.told
    ? `Parasitaemia ${percent(result.value)} (95 % interval ${percent(result.low)} to ${percent(result.high)}): ` +
      `${plural(result.called, "cell")} called parasitized in ${plural(n, "red cell")}.`
    : `${first} in ${plural(n, "red cell")}; this rules out a parasitaemia of more than ${percent(result.rulesOut)} (95 %).`;
  document.getElementById("limits").textContent = decided
    ? `With your decisions, the lowest parasitaemia that would be told from none is ${percent(result.limit)} ` +
      "(95 % / 95 %). The sentences below are of before them." : "";
}

function cellOf(rect) {
  const key = JSON.stringify(JSON.parse(rect.dataset.key).slice(0, 5));
  return shown.has(key) ? data.cells[shown.get(key)] : extra.get(key);
}

let current = -1;
function select(index) {
  if (!data.cells.length) return;
  document.querySelector(".cell.current")?.classList.remove("current");
  current = Math.min(Math.max(index, 0), data.cells.length - 1);
  const figure = document.getElementById(`cell${current}`);
  figure.classList.add("current");
  figure.focus({ preventScroll: true });
  figure.scrollIntoView({ block: "nearest" });
}
const next = (d) => (d === null ? "confirmed" : d === "confirmed" ? "rejected" : null);
function decide(index, decision) {
  if (index < 0) return;
  data.cells[index].decision = decision;
  update();
}
function columns() {
  const cells = [...document.querySelectorAll(".cell")];
  return Math.max(1, cells.findIndex((c) => c.offsetTop > cells[0].offsetTop));
}

function decisions() {
  const cells = [...data.cells, ...extra.values()].filter((c) => c.decision)
    .map(({ field, x0, y0, x1, y1, decision }) => ({ field, x0, y0, x1, y1, decision }));
  return { giemsa_decisions: 1, patient: data.patient, model_sha256: data.model_sha256, cells,
    complete_fields: [...complete].sort() };
}
function save() {
  const link = document.createElement("a");
  const blob = new Blob([JSON.stringify(decisions(), null, 1) + "\n"], { type: "application/json" });
  link.href = URL.createObjectURL(blob);
  link.download = "decisions.json";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

document.querySelectorAll(".cell").forEach((figure) => figure.addEventListener("click", () => {
  const index = Number(figure.dataset.cell);
  select(index);
  decide(index, next(data.cells[index].decision));
}));
document.querySelectorAll("rect").forEach((rect) => rect.addEventListener("click", () => {
  const [field, x0, y0, x1, y1, z] = JSON.parse(rect.dataset.key);
  const key = JSON.stringify([field, x0, y0, x1, y1]);
  if (shown.has(key)) return decide(shown.get(key), next(data.cells[shown.get(key)].decision));
  const cell = extra.get(key) ?? { field, x0, y0, x1, y1, relative_logit: z, decision: null };
  cell.decision = next(cell.decision);
  if (cell.decision) extra.set(key, cell); else extra.delete(key);
  return update();
}));
document.querySelectorAll(".complete").forEach((box) => box.addEventListener("change", () => {
  if (box.checked) complete.add(box.dataset.field); else complete.delete(box.dataset.field);
}));
document.getElementById("save").addEventListener("click", save);
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.tagName === "INPUT") return;
  const key = event.key.toLowerCase();
  const moves = { arrowright: 1, arrowleft: -1, arrowdown: columns(), arrowup: -columns() };
  if (key in moves) select(current < 0 ? 0 : current + moves[key]);
  else if (key === "c" || key === "r") {
    if (current < 0) select(0);
    decide(current, key === "c" ? "confirmed" : "rejected");
    select(current + 1);
  } else if (key === "u") decide(current, null);
  else if (key === "s") save();
  else return;
  event.preventDefault();
});
update();

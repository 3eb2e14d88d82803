"use strict";
// Makes a report live, as a page of its own or within the dashboard: what giemsa/smear/counting.py computes, from the
// same draws, so that the count follows a person's decisions.
window.giemsaReport = (() => {
const GRID = 480, LEVEL = 0.95, EXACT = 30;

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

function count(data, called, confirmed, rejected) {
  const n = data.red_cells;
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
const next = (decision) => (decision === null ? "confirmed" : decision === "confirmed" ? "rejected" : null);

/** Listen to a person, and let the count follow.
 *
 * `root` is the document or shadow root that holds the report; `data` is what stands in its element `data`, and keeps
 * what is decided. Keys are taken while `when()` holds. */
function live(root, data, when = () => true) {
  const $ = (id) => root.getElementById(id);
  const ended = new AbortController(), { signal } = ended;
  const shown = new Map(data.cells.map((c, i) => [keyOf(c), i]));
  const figures = [...root.querySelectorAll(".cell")];
  const boxes = new Map([...root.querySelectorAll("rect")].map((rect) => {
    const [field, x0, y0, x1, y1, relative_logit] = JSON.parse(rect.dataset.key);
    const cell = { field, x0, y0, x1, y1, relative_logit, decision: null };
    return [keyOf(cell), { rect, cell }];
  }));
  const extra = new Map((data.extra ?? []).map((c) => [keyOf(c), c])); // decided on in a field's picture only
  const complete = new Set(data.complete_fields);
  const self = { data, result: null, unsaved: false, save, decisions, apply, end: () => ended.abort() };
  let current = -1;

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
    data.extra = [...extra.values()];
    data.complete_fields = [...complete].sort();
    data.cells.forEach((c, i) => {
      mark(figures[i], c);
      figures[i].querySelector(".decision").textContent =
        c.decision === "confirmed" ? "parasite" : c.decision === "rejected" ? "no parasite" : "";
    });
    boxes.forEach(({ rect }, key) => mark(rect, shown.has(key) ? data.cells[shown.get(key)] : extra.get(key)));
    const decided = confirmed + rejected;
    $("progress").textContent =
      `${plural(called - decided, "called cell")} left to look at; ${confirmed} confirmed, ${rejected} rejected.`;
    if (!n) return;
    const result = self.result = count(data, called, confirmed, rejected);
    const first = result.called === 0 ? "No parasite found" :
      `${plural(result.called, "cell")} called parasitized, no more than false alarms explain,`;
    const cells = `${plural(n, "red cell")} of ${plural(data.fields_counted, "field")}`;
    $("headline").textContent = result.told
      ? `Parasitaemia ${percent(result.value)} (95 % interval ${percent(result.low)} to ${percent(result.high)}): ` +
        `${plural(result.called, "cell")} called parasitized in ${cells}.`
      : `${first} in ${cells}; this rules out a parasitaemia of more than ${percent(result.rulesOut)} (95 %).`;
    $("brief").textContent = result.told ? `${percent(result.value)} (${percent(result.low)} to ${percent(result.high)})`
      : `not more than ${percent(result.rulesOut)}`;
    $("limits").textContent = decided
      ? `With your decisions, the limit of detection is ${percent(result.limit)}. The sentences below are of before them.` : "";
  }

  function mark(element, cell) {
    element.classList.toggle("confirmed", cell?.decision === "confirmed");
    element.classList.toggle("rejected", cell?.decision === "rejected");
  }

  function select(index) {
    if (!data.cells.length) return;
    figures[current]?.classList.remove("current");
    current = Math.min(Math.max(index, 0), data.cells.length - 1);
    figures[current].classList.add("current");
    figures[current].focus({ preventScroll: true });
    figures[current].scrollIntoView({ block: "nearest" });
  }

  function decide(index, decision) {
    if (index < 0) return;
    data.cells[index].decision = decision;
    self.unsaved = true;
    update();
  }

  function decideOn(key, choose = next) {
    if (shown.has(key)) { decide(shown.get(key), choose(data.cells[shown.get(key)].decision)); return; }
    const cell = extra.get(key) ?? { ...boxes.get(key).cell };
    cell.decision = choose(cell.decision);
    if (cell.decision) extra.set(key, cell); else extra.delete(key);
    self.unsaved = true;
    update();
  }

  function columns() {
    const second = figures.findIndex((figure) => figure.offsetTop > figures[0].offsetTop);
    return second > 0 ? second : figures.length;
  }

  function decisions() {
    const cells = [...data.cells, ...extra.values()].filter((c) => c.decision)
      .map(({ field, x0, y0, x1, y1, decision }) => ({ field, x0, y0, x1, y1, decision }));
    return { giemsa_decisions: 1, patient: data.patient, model_sha256: data.model_sha256, cells,
      complete_fields: [...complete].sort() };
  }

  /** Take over what was decided before, as smear/decisions.py does; gives how many of these cells are not here. */
  function apply(saved) {
    if (saved?.giemsa_decisions !== 1 || !Array.isArray(saved.cells)) {
      throw new Error("this is no file of decisions as a report saves them");
    }
    const fields = new Set([...data.cells, ...[...boxes.values()].map(({ cell }) => cell)].map(({ field }) => field));
    const last = (name) => name.slice(name.lastIndexOf("/") + 1);
    const named = (name) => { // a field is the same wherever it lies, if only one is called so
      if (fields.has(name)) return name;
      const alike = [...fields].filter((field) => last(field) === last(String(name)));
      return alike.length === 1 ? alike[0] : name;
    };
    let missing = 0;
    for (const cell of saved.cells) {
      if (!["confirmed", "rejected"].includes(cell.decision)) {
        throw new Error(`a decision is ${JSON.stringify(cell.decision)}; expected confirmed or rejected`);
      }
      const key = keyOf({ ...cell, field: named(cell.field) });
      if (shown.has(key)) data.cells[shown.get(key)].decision = cell.decision;
      else if (boxes.has(key)) extra.set(key, { ...boxes.get(key).cell, decision: cell.decision });
      else missing += 1;
    }
    ticks.forEach((box) => {
      if (!(saved.complete_fields ?? []).map(named).includes(box.dataset.field)) return;
      box.checked = true;
      complete.add(box.dataset.field);
    });
    self.unsaved = false;
    update();
    return missing;
  }

  function save() {
    const link = document.createElement("a");
    const blob = new Blob([JSON.stringify(decisions(), null, 1) + "\n"], { type: "application/json" });
    link.href = URL.createObjectURL(blob);
    link.download = "decisions.json";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
    self.unsaved = false;
  }

  const ticks = [...root.querySelectorAll(".complete")];
  ticks.forEach((box) => {
    box.checked = complete.has(box.dataset.field);
    box.addEventListener("change", () => {
      if (box.checked) complete.add(box.dataset.field); else complete.delete(box.dataset.field);
      self.unsaved = true;
      update();
    });
  });
  figures.forEach((figure, index) => figure.addEventListener("click", () => {
    select(index);
    decide(index, next(data.cells[index].decision));
  }));
  boxes.forEach(({ rect }, key) => rect.addEventListener("click", () => decideOn(key)));
  $("save").addEventListener("click", save);
  document.addEventListener("keydown", (event) => {
    if (!when() || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.composedPath()[0].closest("input:not([type=checkbox]), select, textarea, dialog")) return;
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
  }, { signal });
  addEventListener("beforeunload", (event) => { if (self.unsaved) event.preventDefault(); }, { signal });
  update();
  return self;
}

return { live, count };
})();

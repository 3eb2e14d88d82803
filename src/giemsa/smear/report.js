"use strict";
// What giemsa/smear/counting computes and giemsa/smear/sentences says, so that a report follows a person's decisions
// without a server. Both are held by tests/data/count_vectors.json; the methods and their sources stand in Python.
globalThis.giemsaCount = (() => {
const STEP = 0.05, PI_BINS = 280, SENSITIVITY_BINS = 70, HEALTHY_SHIFTS = 90, BINS = 96, RARE = 1e-6;
const SHAPE = (0.8 * STEP) ** -2, CALLED = 2, BULK = 0, NEAR = 1;
const LOWER = 0.015, UPPER = 0.985, ONE_SIDED = 0.97, BY_READER = 0.02, CONTRADICTED = 3, VARIATION = 0.2, RED_CELLS_PER_UL = 5e6;
const HERMITE = [[-4.512745863399783, 2.2345844007746545e-5], [-3.20542900285647, 0.0027891413212317714],
  [-2.0768479786778302, 0.04991640676521791], [-1.0232556637891326, 0.24409750289493943], [0, 0.40634920634920635],
  [1.0232556637891326, 0.24409750289493943], [2.0768479786778302, 0.04991640676521791],
  [3.20542900285647, 0.0027891413212317714], [4.512745863399783, 2.2345844007746545e-5]];
const PI = Array.from({ length: PI_BINS }, (_, i) => Math.exp(-STEP * (PI_BINS - i - 0.5)));
const PI_EDGES = Array.from({ length: PI_BINS + 1 }, (_, i) => Math.exp(-STEP * (PI_BINS - i)));
const SENSITIVITY = Array.from({ length: SENSITIVITY_BINS }, (_, k) => Math.exp(-STEP * (k + 0.5)));
const SHIFT_OF = PI.map((pi) => Math.min(Math.round(-Math.log1p(-pi) / STEP), HEALTHY_SHIFTS - 1));

const sum = (values) => values.reduce((a, b) => a + b, 0);
const within = (value, low, high) => Math.min(Math.max(value, low), high);

function logGamma(x) { // x > 0
  const product = x * (x + 1) * (x + 2) * (x + 3) * (x + 4) * (x + 5) * (x + 6) * (x + 7);
  const z = x + 8, square = 1 / (z * z);
  const series = (1 / 12 - square * (1 / 360 - square * (1 / 1260 - square / 1680))) / z;
  return (z - 0.5) * Math.log(z) - z + 0.5 * Math.log(2 * Math.PI) + series - Math.log(product);
}

function betaBinomial(n, a, b) {
  const constant = logGamma(n + 1) - logGamma(n + a + b) + logGamma(a + b) - logGamma(a) - logGamma(b);
  return Float64Array.from({ length: n + 1 }, (_, k) =>
    Math.exp(constant - logGamma(k + 1) - logGamma(n - k + 1) + logGamma(k + a) + logGamma(n - k + b)));
}

function betaNegativeBinomial(most, stop, [a, b]) {
  const constant = logGamma(stop + b) - logGamma(stop) + logGamma(a + b) - logGamma(a) - logGamma(b);
  return Float64Array.from({ length: most + 1 }, (_, k) =>
    Math.exp(constant + logGamma(k + stop) - logGamma(k + 1) + logGamma(k + a) - logGamma(k + stop + a + b)));
}

function poissonAtLeast(k, mean) { // exact for the few cells that somebody happens to see
  let below = 0;
  for (let i = 0; i < k; i++) below += Math.exp(i * Math.log(Math.max(mean, 1e-300)) - mean - logGamma(i + 1));
  return within(1 - below, 0, 1);
}

function common(part) { // without the tail that hardly ever happens
  const least = RARE * Math.max(...part);
  let last = part.length - 1;
  while (part[last] <= least) last -= 1;
  return part.subarray(0, last + 1);
}

function binned(part, width) { // mass in bins, and its first moment there
  const half = Math.floor(width / 2), bins = Math.floor((part.length - 1 + half) / width) + 1;
  const mass = new Float64Array(bins), moment = new Float64Array(bins);
  part.forEach((p, place) => {
    const nearest = Math.floor((place + half) / width);
    mass[nearest] += p;
    moment[nearest] += p * (place - nearest * width);
  });
  return [mass, moment];
}

function convolved([mass, moment], [otherMass, otherMoment]) {
  const total = [new Float64Array(mass.length + otherMass.length - 1), new Float64Array(mass.length + otherMass.length - 1)];
  mass.forEach((m, i) => otherMass.forEach((o, j) => {
    total[0][i + j] += m * o;
    total[1][i + j] += moment[i] * o + m * otherMoment[j];
  }));
  return total;
}

const middles = ([mass, moment], width) => Array.from(mass, (m, i) => width * i + (m > 0 ? moment[i] / m : 0));

function calledOf(evidence) {
  const [called, confirmed, rejected] = [evidence.cells, evidence.confirmed, evidence.rejected]
    .map((part) => sum(part.slice(CALLED)));
  return { called, confirmed, rejected };
}

/** Numbers of infected called cells that what was looked at allows, each with its weight, and the weight of none. */
function infectedCalled(evidence, known, reader) {
  const { called, confirmed, rejected } = calledOf(evidence);
  const parts = known.infected.map((a, s) => {
    const [n, c, r] = [evidence.cells, evidence.confirmed, evidence.rejected].map((part) => part[s + CALLED]);
    return betaBinomial(n - c - r, a + c, known.healthy[s] + r);
  });
  let falsely = betaNegativeBinomial(confirmed, rejected + 1, reader.false_confirmations);
  let missed = betaNegativeBinomial(rejected, confirmed + 1, reader.misses);
  let none = parts.reduce((product, part) => product * part[0], 1) * falsely[confirmed] * missed[0];
  [falsely, missed] = [common(falsely), common(missed)];
  const width = Math.max(1, Math.ceil(sum([...parts, falsely, missed].map((part) => part.length - 1)) / BINS));
  let total = [Float64Array.of(1), Float64Array.of(0)];
  for (const part of parts) total = convolved(total, binned(part, width));
  const alpha = sum(known.infected), beta = sum(known.healthy);
  const spreadOf = (infected, healthy) =>
    logGamma(infected + 1) - logGamma(infected + alpha) + logGamma(healthy + 1) - logGamma(healthy + beta);
  const spread = middles(total, width).map((x) => spreadOf(confirmed + x, Math.max(called - confirmed - x, 0)));
  const top = Math.max(...spread.filter((_, i) => total[0][i] > 0));
  none *= Math.exp(spreadOf(confirmed, called - confirmed) - top);
  const weighted = total.map((part) => part.map((value, i) => value * Math.exp(Math.min(spread[i] - top, 0))));
  const [mass, moment] = binned(falsely, width);
  const backwards = [mass.slice().reverse(), moment.slice().reverse().map((value) => -value)];
  total = convolved(convolved(weighted, binned(missed, width)), backwards);
  const first = confirmed - width * (mass.length - 1);
  const infected = middles(total, width).map((x) => first + x);
  const possible = infected.map((x, i) => i).filter((i) =>
    infected[i] > -0.5 && infected[i] < called + 0.5 && total[0][i] > 0);
  return { infected: possible.map((i) => infected[i]), mass: possible.map((i) => total[0][i]), none };
}

function gammaPoisson(counts, logRates) { // rows of counts
  const ofRate = logRates.map((log) => -Math.log1p(Math.exp(log) / SHAPE));
  return counts.map((count) => {
    const constant = logGamma(count + SHAPE) - logGamma(SHAPE) - logGamma(count + 1);
    return Float64Array.from(logRates, (log, r) =>
      Math.exp(constant + SHAPE * ofRate[r] + count * (log - Math.log(SHAPE) + ofRate[r])));
  });
}

function mixedHealthy(healthy, redCells, falseAlarms) { // rows of counts, columns of shares of healthy cells
  const likely = falseAlarms.map((w, i) => (w > RARE * RARE ? i : -1)).filter((i) => i >= 0);
  const first = likely[0], mass = falseAlarms.slice(first, likely[likely.length - 1] + 1);
  const logRates = Array.from({ length: mass.length + HEALTHY_SHIFTS - 1 },
    (_, r) => Math.log(redCells) - STEP * (first + r + 0.5));
  return gammaPoisson(healthy, logRates).map((row) => Float64Array.from({ length: HEALTHY_SHIFTS }, (_, j) => {
    let value = 0;
    for (let l = 0; l < mass.length; l++) value += mass[l] * row[l + j];
    return value;
  }));
}

function uncalled(evidence, known, reader) {
  const meanOf = ([a, b]) => a / (a + b), falsely = meanOf(reader.false_confirmations), misses = meanOf(reader.misses);
  const factors = [];
  let ofNone = 1;
  const missedAt = (pi, s) => pi * (1 - s) * sum(evidence.cells);
  for (const [place, share] of [[BULK, known.missed[0]], [NEAR, known.missed[1]]]) {
    const cells = evidence.cells[place], seen = evidence.confirmed[place], lookedAt = seen + evidence.rejected[place];
    if (!lookedAt) continue;
    const chance = (mean) => Math.exp(seen * Math.log(mean) - mean - logGamma(seen + 1));
    const error = falsely * (place === BULK ? reader.bulk : 1);
    factors.push((pi, s) => {
      const part = Math.min(missedAt(pi, s) * share / cells, 1);
      return chance(lookedAt * (part * (1 - misses) + (1 - part) * error));
    });
    ofNone *= chance(lookedAt * error);
  }
  if (evidence.found_by_eye) {
    const error = (falsely * reader.bulk) ** evidence.found_by_eye;
    factors.push((pi, s) =>
      error + (1 - error) * poissonAtLeast(evidence.found_by_eye, missedAt(pi, s) * known.missed[0]));
    ofNone *= error;
  }
  return { factors, ofNone };
}

function halfMissed(sensitivity) {
  const moved = new Float64Array(SENSITIVITY_BINS);
  sensitivity.forEach((weight, k) => {
    const place = Math.max(-Math.log((1 + SENSITIVITY[k]) / 2) / STEP - 0.5, 0), low = Math.floor(place);
    moved[low] += weight * (1 - (place - low));
    moved[Math.min(low + 1, SENSITIVITY_BINS - 1)] += weight * (place - low);
  });
  return moved;
}

function passed(likelihood, prior) {
  const result = new Float64Array(PI_BINS + 1);
  for (let i = 0; i < PI_BINS; i++) result[i + 1] = result[i] + likelihood[i] * (prior(PI_EDGES[i + 1]) - prior(PI_EDGES[i]));
  return result.map((value) => value / result[PI_BINS]);
}

function interpolated(x, xs, ys) { // as numpy.interp
  if (x <= xs[0]) return ys[0];
  if (x >= xs[xs.length - 1]) return ys[ys.length - 1];
  let low = 0, high = xs.length - 1;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (xs[middle] <= x) low = middle; else high = middle;
  }
  return ys[low] + (ys[high] - ys[low]) * (x - xs[low]) / (xs[high] - xs[low]);
}

/** Posterior of the parasitaemia: distribution functions at PI_EDGES, and what speaks for any infected cell at all. */
function posterior(evidence, known, reader) {
  const { infected, mass, none } = infectedCalled(evidence, known, reader);
  const { called } = calledOf(evidence), n = sum(evidence.cells);
  const healthy = mixedHealthy([...infected.map((x) => Math.max(called - x, 0)), called], n, known.false_alarms);
  const logRates = Array.from({ length: PI_BINS + SENSITIVITY_BINS - 1 }, (_, r) => Math.log(n) - STEP * (r + 1));
  const ofInfected = gammaPoisson(infected, logRates);
  const half = halfMissed(known.sensitivity), { factors, ofNone } = uncalled(evidence, known, reader);
  const [forUpper, forMedian, forLower, likelihood] = [0, 0, 0, 0].map(() => new Float64Array(PI_BINS));
  const values = new Float64Array(infected.length);
  for (let i = 0; i < PI_BINS; i++) {
    const shift = SHIFT_OF[i];
    for (let x = 0; x < values.length; x++) values[x] = mass[x] * healthy[x][shift];
    for (let k = 0; k < SENSITIVITY_BINS; k++) {
      if (known.sensitivity[k] <= 0 && half[k] <= 0) continue;
      let term = 0;
      for (let x = 0; x < values.length; x++) term += values[x] * ofInfected[x][PI_BINS - 1 - i + k];
      for (const factor of factors) term *= factor(PI[i], SENSITIVITY[k]);
      const root = Math.sqrt(SENSITIVITY[k]);
      forUpper[i] += term * known.sensitivity[k] * SENSITIVITY[k];
      forMedian[i] += term * known.sensitivity[k] * root;
      forLower[i] += term * half[k] * root;
      likelihood[i] += term * known.sensitivity[k];
    }
  }
  return {
    upper: passed(forUpper, (pi) => pi), middle: passed(forMedian, Math.sqrt), lower: passed(forLower, Math.sqrt),
    support: Math.max(...likelihood) / Math.max(healthy[infected.length][0] * none * ofNone, 1e-300),
  };
}

function leastConfirmed(lookedAt, reader) {
  if (lookedAt === 0) return 1;
  const chances = betaBinomial(lookedAt, ...reader.false_confirmations);
  let atLeast = 0, least = lookedAt + 1;
  for (let k = lookedAt; k >= 0; k--) {
    atLeast += chances[k];
    if (atLeast > BY_READER) break;
    least = k;
  }
  return least;
}

function density(passedAt, redCells, variation, level) {
  if (!variation) return redCells * interpolated(level, passedAt, PI_EDGES);
  const factors = HERMITE.map(([node]) => Math.exp(variation * node));
  let low = 0, high = factors[factors.length - 1];
  for (let i = 0; i < 50; i++) {
    const middle = (low + high) / 2;
    const below = sum(HERMITE.map(([, weight], f) => weight * interpolated(middle / factors[f], PI_EDGES, passedAt)));
    if (below < level) low = middle; else high = middle;
  }
  return high * redCells;
}

/** What a smear's cells mean, as `meaning` in counting/counts.py; `basis` is what Python puts into the report. */
function count(evidence, basis) {
  const { known, reader } = basis, result = posterior(evidence, known, reader);
  const { called, confirmed: calledConfirmed, rejected } = calledOf(evidence);
  const confirmed = sum(evidence.confirmed) + evidence.found_by_eye, lookedAt = confirmed + sum(evidence.rejected);
  const bulk = evidence.confirmed[BULK] + evidence.rejected[BULK] + evidence.found_by_eye;
  const doubtful = lookedAt - bulk + Math.ceil(reader.bulk * bulk);
  let toldBy = "";
  if (confirmed >= leastConfirmed(doubtful, reader)) toldBy = "review";
  else if (basis.critical !== null && called > basis.critical && (!lookedAt || result.support >= CONTRADICTED)) toldBy = "calls";
  const [low, high] = toldBy ? [LOWER, UPPER] : [0, ONE_SIDED];
  const assumed = basis.red_cells_per_ul === null, red = assumed ? RED_CELLS_PER_UL : basis.red_cells_per_ul;
  const variation = assumed ? VARIATION : 0;
  const ordered = (least, value, most) => ({ value: within(value, least, most), low: least, high: most });
  const median = interpolated(0.5, result.middle, PI_EDGES), upper = (level) => interpolated(level, result.upper, PI_EDGES);
  return {
    red_cells: sum(evidence.cells), fields: evidence.fields, called, confirmed, rejected,
    to_look_at: called - calledConfirmed - rejected, told_from_none: toldBy !== "", told_by: toldBy,
    parasitaemia: ordered(toldBy ? interpolated(low, result.lower, PI_EDGES) : 0, median, upper(high)),
    rules_out: upper(ONE_SIDED),
    per_ul: ordered(toldBy ? density(result.lower, red, variation, low) : 0, median * red,
      density(result.upper, red, variation, high)),
    per_ul_rules_out: density(result.upper, red, variation, ONE_SIDED),
    red_cells_per_ul: red, red_cells_per_ul_assumed: assumed,
  };
}

function percent(share) {
  const v = 100 * share;
  if (v >= 10) return `${v.toFixed(0)} %`;
  if (v >= 1 || v === 0) return `${v.toFixed(1)} %`;
  return v >= 1e-4 ? `${Number(v.toPrecision(2))} %` : "0.0001 %";
}

const number = (n) => n.toLocaleString("en", { maximumFractionDigits: 0 });
const counted = (n, noun) => `${number(n)} ${noun}${n === 1 ? "" : "s"}`;
const twoDigits = (n) => number(Number(n.toPrecision(2)));

function headline(count) {
  const cells = `${counted(count.red_cells, "red cell")} of ${counted(count.fields, "field")}`;
  const confirmed = `${counted(count.confirmed, "parasitized cell")} confirmed`;
  if (count.confirmed + count.rejected === 0) {
    if (count.called === 0) return `No suspicious cell in ${cells}. This is no all-clear.`;
    return `${counted(count.called, "suspicious cell")} in ${cells}: look at ${count.called === 1 ? "it" : "them"}.`;
  }
  if (count.to_look_at) {
    return `${confirmed} so far in ${cells}; ${counted(count.to_look_at, "suspicious cell")} left to look at.`;
  }
  if (count.called === 0) return `${confirmed} in ${cells}.`;
  const every = count.called > 1 ? `All ${number(count.called)} suspicious cells were` : "The one suspicious cell was";
  if (count.confirmed === 0) return `${every} looked at, and no parasite was confirmed in ${cells}. This is no all-clear.`;
  return `${every} looked at: ${confirmed} in ${cells}.`;
}

function meaning(count, measured) {
  const share = count.parasitaemia;
  if (count.told_from_none) {
    const why = count.told_by === "review" ? "more cells were confirmed than a reader's errors explain"
      : "more cells are called than false alarms on another slide of this laboratory explain";
    return `The parasitaemia is ${percent(share.low)} to ${percent(share.high)} (95 % interval), about ` +
      `${percent(share.value)}: ${why}.`;
  }
  if (!measured && count.confirmed + count.rejected === 0) {
    return "Calls alone tell next to nothing here, since no slide of this laboratory was reviewed: none of the red cells " +
      `may carry parasites, or up to ${percent(count.rules_out)} (95 %). A person who looks at the cells can tell.`;
  }
  const doubt = count.confirmed
    ? `; ${counted(count.confirmed, "confirmed cell")} may be a reader's error, so let a second person look` : "";
  return `The parasitaemia is not more than ${percent(count.rules_out)} (95 %), and may be none${doubt}.`;
}

function perMicrolitre(count) {
  const source = count.red_cells_per_ul_assumed
    ? "assumed (3.4 to 7.4 million in 95 of 100 people), since it was not given" : "as given";
  const figure = count.told_from_none
    ? `${twoDigits(count.per_ul.low)} to ${twoDigits(count.per_ul.high)} parasitized cells per microlitre (95 % interval)`
    : `Not more than ${twoDigits(count.per_ul_rules_out)} parasitized cells per microlitre (95 %)`;
  return `${figure}, for ${number(count.red_cells_per_ul)} red cells per microlitre, ${source}.`;
}

/** How many cells to look at next of each stratum, as `next_strata` in counting/review.py. */
function nextStrata(evidence, known, reader, cells) {
  const { share, precision } = expectedShares(evidence, known, reader);
  const left = evidence.cells.map((n, s) => (s === BULK ? 0 : n - evidence.confirmed[s] - evidence.rejected[s]));
  const chosen = left.map(() => 0);
  const variance = (n, s, worth) => n * share[s] * (1 - share[s]) * (1 + (n - 1) / (worth + 1));
  for (let wanted = Math.min(cells, sum(left)); wanted > 0; wanted--) {
    const fall = left.map((n, s) => (n > 0 ? variance(n, s, precision[s]) - variance(n - 1, s, precision[s] + 1) : -1));
    const best = fall.indexOf(Math.max(...fall));
    chosen[best] += 1;
    left[best] -= 1;
    precision[best] += 1;
  }
  return chosen;
}

function expectedShares(evidence, known, reader) {
  const pi = interpolated(0.5, posterior(evidence, known, reader).middle, PI_EDGES), n = sum(evidence.cells);
  const sensitivity = sum(known.sensitivity.map((weight, k) => weight * SENSITIVITY[k]));
  const near = n * pi * (1 - sensitivity) * known.missed[1] / Math.max(evidence.cells[NEAR], 1);
  const called = known.infected.map((a, s) => {
    const infected = a / sum(known.infected) * n * pi * sensitivity;
    return Math.min(infected / Math.max(evidence.cells[s + CALLED], 1), 0.9) * 0.95 + 0.02;
  });
  const prior = [0, Math.min(near, 0.5), ...called];
  const weight = [1, 2, ...known.infected.map((a, s) => a + known.healthy[s])];
  const precision = weight.map((w, s) => w + evidence.confirmed[s] + evidence.rejected[s]);
  return { share: prior.map((p, s) => (p * weight[s] + evidence.confirmed[s]) / precision[s]), precision };
}

/** Stratum of a cell's relative logit; `edges` are the lower edges of all strata but the first. */
const stratumOf = (relativeLogit, edges) => edges.filter((edge) => relativeLogit >= edge).length;

return { count, counted, headline, meaning, nextStrata, percent, perMicrolitre, stratumOf };
})();

// Makes a report live, as a page of its own or within the dashboard, so that the count follows a person's decisions.
window.giemsaReport = (() => {
const { counted, percent } = giemsaCount;
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

  /** What the smear shows by stratum of score, with what is decided; as `evidence_of_field` in smear/tally.py. */
  function evidence() {
    const fields = Object.entries(data.fields), none = () => data.edges.map(() => 0).concat(0);
    const [cells, confirmed, rejected] = [none(), none(), none()], decidedIn = new Map();
    let foundByEye = 0;
    for (const [, strata] of fields) strata.forEach((n, s) => { cells[s] += n; });
    for (const cell of [...data.cells, ...extra.values()].filter((c) => c.decision)) {
      const stratum = giemsaCount.stratumOf(cell.relative_logit, data.edges), whole = complete.has(cell.field);
      if (cell.decision === "confirmed" && whole) {
        if (!decidedIn.has(cell.field)) decidedIn.set(cell.field, none());
        decidedIn.get(cell.field)[stratum] += 1;
      }
      if (stratum === 0 && !whole) foundByEye += cell.decision === "confirmed"; // a bulk's cell that somebody saw: no sample
      else if (cell.decision === "confirmed") confirmed[stratum] += 1;
      else if (!whole) rejected[stratum] += 1;
    }
    for (const [field, strata] of fields.filter(([name]) => complete.has(name))) {
      strata.forEach((n, s) => { rejected[s] += n - (decidedIn.get(field)?.[s] ?? 0); });
    }
    return { fields: fields.length, cells, confirmed, rejected, found_by_eye: foundByEye };
  }

  function update() {
    data.extra = [...extra.values()];
    data.complete_fields = [...complete].sort();
    data.cells.forEach((c, i) => {
      mark(figures[i], c);
      figures[i].querySelector(".decision").textContent =
        c.decision === "confirmed" ? "parasite" : c.decision === "rejected" ? "no parasite" : "";
    });
    boxes.forEach(({ rect }, key) => mark(rect, shown.has(key) ? data.cells[shown.get(key)] : extra.get(key)));
    if (!data.basis) { $("progress").textContent = ""; return; }
    const result = self.result = giemsaCount.count(evidence(), data.basis);
    $("progress").textContent = `${counted(result.to_look_at, "suspicious cell")} left to look at; ` +
      `${result.confirmed} confirmed, ${result.rejected} rejected.`;
    $("headline").textContent = giemsaCount.headline(result);
    $("meaning").textContent = giemsaCount.meaning(result, data.basis.measured);
    $("per-ul").textContent = giemsaCount.perMicrolitre(result);
    $("brief").textContent = result.told_from_none
      ? `${percent(result.parasitaemia.low)} to ${percent(result.parasitaemia.high)}`
      : `not more than ${percent(result.rules_out)}`;
    countFields();
  }

  /** Keep each field's number of parasitized cells in step with the decisions. */
  function countFields() {
    const called = new Map();
    for (const [key, { cell }] of boxes) {
      const decision = (shown.has(key) ? data.cells[shown.get(key)] : extra.get(key))?.decision;
      const parasitized = decision ? decision === "confirmed" : cell.relative_logit >= data.cut && !complete.has(cell.field);
      called.set(cell.field, (called.get(cell.field) ?? 0) + parasitized);
    }
    root.querySelectorAll(".parasitized-cells").forEach((place) => {
      if (called.has(place.dataset.field)) place.textContent = called.get(place.dataset.field);
    });
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

  /** Go to the cell that narrows the interval most: the worst undecided one of the stratum that tells most. */
  function selectNext() {
    if (!data.basis) return;
    const { known, reader } = data.basis, shownOf = (stratum) => data.cells.findIndex((cell) => !cell.decision &&
      !complete.has(cell.field) && giemsaCount.stratumOf(cell.relative_logit, data.edges) === stratum);
    const wanted = giemsaCount.nextStrata(evidence(), known, reader, 10).map((n, stratum) => ({ n, stratum }));
    const places = wanted.filter(({ n }) => n > 0).sort((a, b) => b.n - a.n).map(({ stratum }) => shownOf(stratum));
    const place = [...places, data.cells.findIndex((cell) => !cell.decision)].find((index) => index >= 0);
    if (place !== undefined) select(place);
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
  $("next").addEventListener("click", selectNext);
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
    else if (key === "n") selectNext();
    else if (key === "s") save();
    else return;
    event.preventDefault();
  }, { signal });
  addEventListener("beforeunload", (event) => { if (self.unsaved) event.preventDefault(); }, { signal });
  update();
  return self;
}

return { live };
})();

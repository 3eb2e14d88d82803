// @ts-check
/** The part *Model*: the card, and what a threshold costs, computed here from counts at some hundred thresholds. */
/** @import { Card, Curve, Curves } from "./types.mjs" */
/** @import { Axis, Series } from "./charts.mjs" */
import { get } from "./api.mjs";
import { drawChart } from "./charts.mjs";
import { $, element, h } from "./dom.mjs";
import { troubleOf } from "./notices.mjs";
import { nearest, predictiveValues, ratesAt } from "./numbers.mjs";
import { isShown, onShow } from "./pages.mjs";
import { percent, threshold as shownThreshold } from "./words.mjs";

/** @type {Record<string, string>} */
const LABELS = { confirmed: "confirmed labels", official: "official labels" };
/** @type {Axis} */
const FALSE_ALARMS = {
  label: "false alarms, of uninfected cells",
  from: -0.004,
  to: 0.2,
  ticks: [0, 0.05, 0.1, 0.15, 0.2],
  format: (value) => percent(value, 0),
};
/** @type {Axis} */
const SENSITIVITY = { ...FALSE_ALARMS, label: "sensitivity", from: 0.8, to: 1.004, ticks: [0.8, 0.85, 0.9, 0.95, 1] };
/** @type {Axis} */
const SHARE = {
  label: "p parasitized, as the model says",
  from: -0.02,
  to: 1.02,
  ticks: [0, 0.2, 0.4, 0.6, 0.8, 1],
  format: (value) => value.toFixed(1),
};

const state = {
  /** @type {Card | null} */
  card: null,
  /** @type {Curves[]} */
  curves: [],
  of: 0,
  labels: "",
  at: 0,
};

async function open() {
  if (state.card) {
    draw();
    return;
  }
  try {
    [state.card, state.curves] = await Promise.all([get("/api/v1/model"), get("/api/v1/model/curves")]);
  } catch (error) {
    troubleOf(error);
    return;
  }
  renderCard(/** @type {Card} */ (state.card));
  if (!state.curves.length) return;
  const select = element("labels", HTMLSelectElement);
  state.curves.forEach((curve, of) => {
    for (const labels of Object.keys(LABELS)) {
      const name = `${curve.name}: ${LABELS[labels]}`;
      if (curve.labels[labels]) select.append(h("option", { value: `${of}/${labels}` }, name));
    }
  });
  $("model-live").hidden = false;
  $("curves").hidden = false;
  choose(select.value);
  document.body.dataset.model = "ready";
}

/** @param {Card} card */
function renderCard(card) {
  const { temperature, bias } = card.calibration;
  /** @type {[string, string][]} */
  const facts = [
    ["name", card.name],
    ["SHA-256", card.sha256],
    ["verdict", `parasitized where p parasitized is at least ${shownThreshold(card.threshold)}`],
    ["calibration", `p = sigmoid(logit / ${temperature.toPrecision(4)} + ${bias.toPrecision(4)})`],
    ["input", `${card.input_size_px} x ${card.input_size_px} px, RGB`],
    ["trained on", card.label_set || "not said"],
    ["patients", card.training_patients ? card.training_patients.toLocaleString("en") : "not known"],
    ["computes with", `${card.provider}, Giemsa ${card.giemsa}`],
    ["licence", card.licence || "not said"],
  ];
  const list = h(
    "dl",
    { class: "facts" },
    facts.map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]),
  );
  const box = h("div", { class: "card-box" }, h("h2", {}, "Card"), list);
  if (!state.curves.length) {
    const why =
      "There are no labelled predictions of this model here, so that nothing can be said of how often it is wrong.";
    const how = h("code", {}, "--runs EVALUATION");
    const writer = h("code", {}, "giemsa evaluate");
    box.append(h("p", { class: "quiet" }, why, " Start the server with ", how, ", a folder that ", writer, " wrote."));
  }
  $("model-card").replaceChildren(box);
  if (state.curves.length > 1) $("model-card").append(comparison());
}

/**
 * @param {string} name
 * @param {Node} table
 */
const scrolling = (name, table) =>
  h("div", { class: "table-scroll", tabindex: 0, role: "region", "aria-label": name }, table);

/** @param {string[]} names */
const heads = (names) =>
  h(
    "thead",
    {},
    h(
      "tr",
      {},
      names.map((name) => h("th", { scope: "col" }, name)),
    ),
  );

function comparison() {
  const cell = (/** @type {Curve["roc_auc"]} */ auc) =>
    auc ? `${auc.value.toFixed(4)} (${auc.low.toFixed(4)} to ${auc.high.toFixed(4)})` : "n/a";
  const rows = state.curves.map((curve) => {
    const some = curve.labels.official || curve.labels.confirmed;
    return h(
      "tr",
      {},
      h("th", { scope: "row" }, `${curve.name}${curve.serving ? " (judges here)" : ""}`),
      h("td", {}, some.n.toLocaleString("en")),
      h("td", {}, some.kind === "patients" ? String(some.units) : "not known"),
      Object.keys(LABELS).map((labels) => h("td", {}, cell(curve.labels[labels]?.roc_auc))),
    );
  });
  const caption = h("caption", {}, "ROC AUC of all models that were given, with 95 % intervals");
  const head = heads(["model", "cells", "patients", "confirmed labels", "official labels"]);
  return scrolling("Comparison of models", h("table", { class: "plain-table" }, caption, head, h("tbody", {}, rows)));
}

/** @param {string} value */
function choose(value) {
  const [of, labels] = value.split("/");
  state.of = Number(of);
  state.labels = labels;
  const { thresholds } = current();
  element("threshold", HTMLInputElement).max = String(thresholds.length - 1);
  setThreshold(nearest(thresholds, state.card?.threshold ?? 0.5));
}

const current = () => state.curves[state.of].labels[state.labels];

/** @param {number} at */
function setThreshold(at) {
  state.at = at;
  element("threshold", HTMLInputElement).value = String(at);
  draw();
}

/* ---- what a threshold costs ---- */

function draw() {
  if (!state.curves.length) return;
  const curve = current();
  tell("threshold", shownThreshold(curve.thresholds[state.at]));
  const share = 10 ** (Number(element("prevalence", HTMLInputElement).value) / 10);
  tell("prevalence", share >= 0.01 ? percent(share, share >= 0.1 ? 0 : 1) : `1 in ${whole(1 / share)}`);
  $("live-figures").replaceChildren(...figures(curve, share));
  $("confusion").replaceChildren(confusion(curve));
  const units = curve.kind === "patients" ? `${curve.units} patients` : "cells, since patients are not known";
  const notes = [
    `Intervals by bootstrap over ${units}; where all or none were called, the exact bound over cells.`,
    "The predictive values hold at the share of infected cells chosen above.",
    "Moving the threshold changes nothing elsewhere:",
    `verdicts are given at ${shownThreshold(state.card?.threshold ?? 0.5)}.`,
    state.curves[state.of].serving ? "" : "These are figures of another model than the one that judges here.",
  ];
  $("live-note").textContent = notes.join(" ");
  plot(curve);
}

/** @param {number} value */
const whole = (value) => Math.round(value).toLocaleString("en");

/**
 * Say in words where a slider stands.
 *
 * @param {string} id
 * @param {string} said
 */
function tell(id, said) {
  $(`${id}-said`).textContent = said;
  $(id).setAttribute("aria-valuetext", said);
}

/**
 * @param {Curve} curve
 * @param {number} share
 */
function figures(curve, share) {
  const { sensitivity, specificity } = ratesAt(curve, state.at);
  const [se, sp] = [limitsOf(curve.sensitivity), limitsOf(curve.specificity)];
  const values = predictiveValues(sensitivity, specificity, share);
  const least = predictiveValues(se.low, sp.low, share);
  const most = predictiveValues(se.high, sp.high, share);
  return [
    figure(percent(sensitivity), "sensitivity, of parasitized cells", interval(percent, se.low, se.high)),
    figure(percent(specificity), "specificity, of uninfected cells", interval(percent, sp.low, sp.high)),
    figure(ppv(values.ppv), "of cells called parasitized are (PPV)", fromLimits(ppv, least.ppv, most.ppv)),
    figure(npv(values.npv), "of cells called uninfected are (NPV)", fromLimits(npv, least.npv, most.npv)),
    falseAlarms(curve, specificity),
  ];
}

/** @typedef {(share: number) => string} Format */

/** @type {Format} */
const ppv = (share) => (Number.isNaN(share) ? "n/a" : percent(share, 1));
/** @type {Format} */
const npv = (share) => (Number.isNaN(share) ? "n/a" : percent(share, 3));
/** @type {Format} */
const million = (share) => whole(1e6 * share);

/**
 * @param {Format} format
 * @param {number} low
 * @param {number} high
 */
const interval = (format, low, high) => `95 % interval ${format(low)} to ${format(high)}`;

/**
 * @param {Format} format
 * @param {number} low
 * @param {number} high
 */
const fromLimits = (format, low, high) => `from the limits above: ${format(low)} to ${format(high)}`;

/** @param {Curve["sensitivity"]} limits */
const limitsOf = (limits) => ({ low: limits?.low[state.at] ?? Number.NaN, high: limits?.high[state.at] ?? Number.NaN });

/**
 * False alarms, of people without malaria where there are such cells: there the reader cannot have been wrong.
 *
 * @param {Curve} curve
 * @param {number} specificity
 */
function falseAlarms(curve, specificity) {
  const donors = state.curves[state.of].labels.donors;
  const limits = limitsOf((donors || curve).specificity);
  const wrong = donors ? donors.false_positives[state.at] / donors.n : 1 - specificity;
  const whose = donors
    ? `false alarms in a million healthy cells: of the ${donors.units} donors without malaria`
    : "false alarms in a million healthy cells: what the specificity above means";
  return figure(million(wrong), whose, interval(million, 1 - limits.high, 1 - limits.low));
}

/**
 * @param {string} value
 * @param {string} name
 * @param {string} small
 */
const figure = (value, name, small) =>
  h("div", { class: "figure" }, h("b", {}, value), h("span", {}, name), h("small", {}, small));

/** @param {Curve} curve */
function confusion(curve) {
  const { tp, fp, fn, tn } = ratesAt(curve, state.at);
  const row = (/** @type {string} */ name, /** @type {number[]} */ cells) =>
    h(
      "tr",
      {},
      h("th", { scope: "row" }, name),
      cells.map((cell) => h("td", {}, cell.toLocaleString("en"))),
    );
  const caption = h("caption", {}, `${curve.n.toLocaleString("en")} cells, ${LABELS[state.labels]}`);
  const head = heads(["people say", "called parasitized", "called uninfected"]);
  const body = h("tbody", {}, row("parasitized", [tp, fn]), row("uninfected", [fp, tn]));
  const table = h("table", { class: "plain-table", id: "confusion-table" }, caption, head, body);
  return scrolling("Confusion matrix", table);
}

/* ---- curves ---- */

/** @param {Curve} curve */
function plot(curve) {
  if (!isShown("model")) return;
  const { sensitivity, specificity } = ratesAt(curve, state.at);
  drawChart($("roc"), {
    title: `ROC curve: sensitivity ${percent(sensitivity)} at ${percent(1 - specificity)} false alarms`,
    x: FALSE_ALARMS,
    y: SENSITIVITY,
    series: state.curves.flatMap(rocOf),
    mark: { x: 1 - specificity, y: sensitivity },
    pick: ({ value }) => setThreshold(nearest(curve.thresholds, value ?? 0.5)),
  });
  const { said, seen, n } = curve.reliability ?? { said: [], seen: [], n: [] };
  const tell = (/** @type {number} */ i) =>
    `said ${said[i].toFixed(3)}, seen ${seen[i].toFixed(3)}, ${n[i].toLocaleString("en")} cells`;
  const ends = [0, 1].map((end) => ({ x: end, y: end }));
  drawChart($("reliability"), {
    title: "Reliability: the share that is parasitized against the probability that the model says",
    x: SHARE,
    y: { ...SHARE, label: "share that is parasitized" },
    series: [
      { name: "perfect", kind: "guide", points: ends },
      { name: "seen", kind: "main", dots: true, points: said.map((x, i) => ({ x, y: seen[i], said: tell(i) })) },
    ],
  });
}

/**
 * @param {Curves} one
 * @param {number} of
 * @returns {Series[]}
 */
function rocOf(one, of) {
  const curve = one.labels[state.labels];
  if (!curve) return [];
  const points = curve.thresholds.map((value, at) => {
    const { sensitivity, specificity } = ratesAt(curve, at);
    const said =
      `threshold ${shownThreshold(value)}, false alarms ${percent(1 - specificity)}, ` +
      `sensitivity ${percent(sensitivity)}`;
    return { x: 1 - specificity, y: sensitivity, value, said };
  });
  return [{ name: one.name, kind: of === state.of ? "main" : "other", points }];
}

export function startModel() {
  const threshold = element("threshold", HTMLInputElement);
  const labels = element("labels", HTMLSelectElement);
  threshold.addEventListener("input", () => setThreshold(Number(threshold.value)));
  $("prevalence").addEventListener("input", draw);
  labels.addEventListener("change", () => choose(labels.value));
  for (const button of document.querySelectorAll(/** @type {"button"} */ ("[data-prevalence]"))) {
    button.addEventListener("click", () => {
      element("prevalence", HTMLInputElement).value = String(10 * Math.log10(Number(button.dataset.prevalence)));
      draw();
    });
  }
  onShow("model", open);
  addEventListener("resize", () => {
    if (state.card && isShown("model")) draw();
  });
}

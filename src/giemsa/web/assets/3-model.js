/* The model's page: the card, and what a threshold costs, computed here from counts at some hundred thresholds. */
"use strict";

(() => {
  const { $, h, get, trouble, page, dashReady } = window.giemsa;
  const state = { card: null, curves: [], of: 0, labels: null, at: 0, shown: false };
  window.giemsa.model = state;
  const NAMES = { confirmed: "confirmed labels", official: "official labels", donors: "donors" };
  const percent = (share, digits = 2) => (share === null ? "n/a" : `${(100 * share).toFixed(digits)} %`);
  const interval = (low, high, show = percent) => `95 % interval ${show(low)} to ${show(high)}`;

  page("model", async () => {
    if (state.card) { draw(); return; }
    try {
      [state.card, state.curves] = await Promise.all([get("/api/v1/model"), get("/api/v1/model/curves")]);
    } catch (error) { trouble(`${error.message}.`); return; }
    renderCard();
    if (!state.curves.length) return;
    const select = $("labels");
    state.curves.forEach((curve, of) => {
      for (const labels of ["confirmed", "official"]) {
        if (curve.labels[labels]) select.append(h("option", { value: `${of}/${labels}` }, `${curve.name}: ${NAMES[labels]}`));
      }
    });
    $("model-live").hidden = false;
    choose(select.value);
    document.body.dataset.model = "ready";
  });

  function renderCard() {
    const { card } = state;
    const facts = [["name", card.name], ["SHA-256", card.sha256], ["verdict", `parasitized where p_parasitized is at least ${Number(card.threshold.toPrecision(6))}`],
      ["calibration", `p = sigmoid(logit / ${card.calibration.temperature.toPrecision(4)} + ${card.calibration.bias.toPrecision(4)})`],
      ["input", `${card.input_size_px} x ${card.input_size_px} px, RGB`], ["trained on", card.label_set || "not said"],
      ["patients", card.training_patients ? card.training_patients.toLocaleString("en") : "not known"],
      ["computes with", `${card.provider}, Giemsa ${card.giemsa}`], ["licence", card.licence || "not said"]];
    const box = h("div", { class: "card-box" }, h("h2", {}, "Card"), h("dl", { class: "facts" }, facts.map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)])));
    if (!state.curves.length) {
      box.append(h("p", { class: "quiet" }, "There are no labelled predictions of this model here, so that nothing can be said of how often it is wrong. Start the server with ",
        h("code", {}, "--runs EVALUATION"), ", a folder that ", h("code", {}, "giemsa evaluate"), " wrote."));
    }
    $("model-card").replaceChildren(box);
    if (state.curves.length > 1) $("model-card").append(comparison());
  }

  function comparison() {
    const cell = (auc) => (auc ? `${auc.value.toFixed(4)} (${auc.low.toFixed(4)} to ${auc.high.toFixed(4)})` : "n/a");
    return h("div", { class: "table-scroll", tabindex: "0", role: "region", "aria-label": "Comparison of models" }, h("table", { class: "plain-table" },
      h("caption", {}, "ROC AUC of all models that were given, with 95 % intervals"),
      h("thead", {}, h("tr", {}, ["model", "cells", "patients", "confirmed labels", "official labels"].map((name) => h("th", { scope: "col" }, name)))),
      h("tbody", {}, state.curves.map((curve) => {
        const some = curve.labels.official || curve.labels.confirmed;
        return h("tr", {}, h("th", { scope: "row" }, `${curve.name}${curve.serving ? " (judges here)" : ""}`), h("td", {}, some.n.toLocaleString("en")),
          h("td", {}, some.kind === "patients" ? String(some.units) : "not known"),
          ["confirmed", "official"].map((labels) => h("td", {}, cell(curve.labels[labels] && curve.labels[labels].roc_auc))));
      }))));
  }

  function choose(value) {
    const [of, labels] = value.split("/");
    state.of = Number(of);
    state.labels = labels;
    const curve = current();
    $("threshold").max = curve.thresholds.length - 1;
    state.at = nearest(curve.thresholds, state.card.threshold);
    $("threshold").value = state.at;
    draw();
  }

  const current = () => state.curves[state.of].labels[state.labels];
  const nearest = (values, wanted) => values.reduce((best, value, index) => (Math.abs(value - wanted) < Math.abs(values[best] - wanted) ? index : best), 0);
  const prevalence = () => 10 ** (Number($("prevalence").value) / 10);

  function draw() {
    if (!state.curves.length) return;
    const [curve, at] = [current(), state.at];
    const [positives, negatives] = [curve.positives, curve.n - curve.positives];
    const [tp, fp] = [curve.true_positives[at], curve.false_positives[at]];
    const [sensitivity, specificity] = [tp / positives, 1 - fp / negatives];
    const share = prevalence();
    const limits = (name) => [curve[name].low[at], curve[name].high[at]];
    const [se, sp] = [limits("sensitivity"), limits("specificity")];
    const ppv = (a, b) => (a * share) / (a * share + (1 - b) * (1 - share) || 1e-300);
    const npv = (a, b) => (b * (1 - share)) / (b * (1 - share) + (1 - a) * share || 1e-300);
    const donors = state.curves[state.of].labels.donors;
    const healthy = donors || curve;
    const wrong = donors ? donors.false_positives[at] / donors.n : fp / negatives;
    const million = (value) => Math.round(1e6 * value).toLocaleString("en");
    const threshold = curve.thresholds[at];
    const shownThreshold = threshold < 0.001 || threshold > 0.999 ? threshold.toPrecision(4) : threshold.toFixed(3);
    $("threshold-said").textContent = shownThreshold;
    $("threshold").setAttribute("aria-valuetext", shownThreshold);
    const shownShare = share >= 0.01 ? percent(share, share >= 0.1 ? 0 : 1) : `1 in ${Math.round(1 / share).toLocaleString("en")}`;
    $("prevalence-said").textContent = shownShare;
    $("prevalence").setAttribute("aria-valuetext", shownShare);
    const figure = (value, name, small) => h("div", { class: "figure" }, h("b", {}, value), h("span", {}, name), h("small", {}, small));
    $("live-figures").replaceChildren(
      figure(percent(sensitivity), "sensitivity, of parasitized cells", interval(...se)),
      figure(percent(specificity), "specificity, of uninfected cells", interval(...sp)),
      figure(percent(ppv(sensitivity, specificity), 1), "of cells called parasitized are (PPV)", `from the limits above: ${percent(ppv(se[0], sp[0]), 1)} to ${percent(ppv(se[1], sp[1]), 1)}`),
      figure(percent(npv(sensitivity, specificity), 3), "of cells called uninfected are (NPV)", `from the limits above: ${percent(npv(se[0], sp[0]), 3)} to ${percent(npv(se[1], sp[1]), 3)}`),
      figure(million(wrong), `false alarms in a million healthy cells${donors ? " (donors')" : ""}`, interval(1 - healthy.specificity.high[at], 1 - healthy.specificity.low[at], million)));
    const number = (value) => h("td", {}, value.toLocaleString("en"));
    $("confusion").replaceChildren(h("div", { class: "table-scroll", tabindex: "0", role: "region", "aria-label": "Confusion matrix" }, h("table", { class: "plain-table", id: "confusion-table" },
      h("caption", {}, `${curve.n.toLocaleString("en")} cells, ${NAMES[state.labels]}`),
      h("thead", {}, h("tr", {}, ["people say", "called parasitized", "called uninfected"].map((name) => h("th", { scope: "col" }, name)))),
      h("tbody", {}, h("tr", {}, h("th", { scope: "row" }, "parasitized"), number(tp), number(positives - tp)),
        h("tr", {}, h("th", { scope: "row" }, "uninfected"), number(fp), number(negatives - fp))))));
    const units = curve.kind === "patients" ? `${curve.units} patients` : "cells, since patients are not known";
    $("live-note").textContent = `Intervals by bootstrap over ${units}; where all or none were called, the exact bound over cells. The predictive values hold at the share of infected cells chosen above.`
      + (state.curves[state.of].serving ? "" : " These are figures of another model than the one that judges here.");
    plot(curve, at);
  }

  let drawn = 0;
  async function plot(curve, at) {
    const turn = (drawn += 1);
    const dash = await dashReady;
    if (turn !== drawn) return;
    $("curves").hidden = document.body.dataset.page !== "model";
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(name).trim();
    const axis = { gridcolor: colour("--line"), zerolinecolor: colour("--line"), linecolor: colour("--faint") };
    const layout = (x, y) => ({ paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { color: colour("--ink"), family: "inherit", size: 13 },
      margin: { l: 60, r: 12, t: 12, b: 50 }, xaxis: { ...axis, ...x }, yaxis: { ...axis, ...y }, hovermode: "closest", legend: { orientation: "h", y: -0.2 }, uirevision: "kept" });
    const negatives = curve.n - curve.positives;
    const rate = (c) => c.false_positives.map((n) => n / (c.n - c.positives));
    const shares = (c) => c.true_positives.map((n) => n / c.positives);
    const traces = state.curves.flatMap((one, of) => {
      const c = one.labels[state.labels];
      if (!c) return [];
      const mine = of === state.of;
      return [{ x: rate(c), y: shares(c), customdata: c.thresholds, mode: "lines", name: one.name, line: { color: mine ? colour("--accent") : colour("--faint"), width: mine ? 3 : 1.5, dash: mine ? "solid" : ["dash", "dot", "dashdot"][of % 3] },
        hovertemplate: "threshold %{customdata:.4f}<br>false alarms %{x:.4%}<br>sensitivity %{y:.2%}<extra>%{fullData.name}</extra>" }];
    });
    traces.push({ x: [curve.false_positives[at] / negatives], y: [curve.true_positives[at] / curve.positives], mode: "markers", name: "threshold", hoverinfo: "skip",
      marker: { size: 13, color: colour("--parasitized"), line: { width: 2, color: colour("--card") } } });
    dash.set_props("roc", { figure: { data: traces, layout: layout({ title: { text: "false alarms, of uninfected cells" }, range: [-0.01, 0.2], tickformat: ".0%" }, { title: { text: "sensitivity" }, range: [0.8, 1.005], tickformat: ".0%" }) } });
    const { said, seen, n } = curve.reliability;
    dash.set_props("reliability", { figure: { data: [{ x: [0, 1], y: [0, 1], mode: "lines", name: "perfect", line: { color: colour("--faint"), dash: "dot" }, hoverinfo: "skip" },
      { x: said, y: seen, customdata: n, mode: "lines+markers", name: "seen", line: { color: colour("--accent"), width: 3 }, marker: { size: 9 }, hovertemplate: "said %{x:.3f}<br>seen %{y:.3f}<br>%{customdata:,} cells<extra></extra>" }],
    layout: layout({ title: { text: "p parasitized, as the model says" }, range: [-0.02, 1.02] }, { title: { text: "share that is parasitized" }, range: [-0.02, 1.02] }) } });
  }

  window.dash_clientside.giemsa.rocClicked = (clicked) => {
    const threshold = clicked && clicked.points[0].customdata;
    if (threshold !== undefined && threshold !== null) { state.at = nearest(current().thresholds, threshold); $("threshold").value = state.at; draw(); }
    return null;
  };

  addEventListener("DOMContentLoaded", () => {
    $("threshold").addEventListener("input", () => { state.at = Number($("threshold").value); draw(); });
    $("prevalence").addEventListener("input", draw);
    $("labels").addEventListener("change", () => choose($("labels").value));
    for (const button of document.querySelectorAll("[data-prevalence]")) {
      button.addEventListener("click", () => { $("prevalence").value = 10 * Math.log10(Number(button.dataset.prevalence)); draw(); });
    }
  });
  document.addEventListener("giemsa-page", () => { dashReady.then(() => { $("curves").hidden = document.body.dataset.page !== "model" || !state.curves.length; }); });
  document.addEventListener("giemsa-theme", () => { if (state.card && document.body.dataset.page === "model") draw(); });
})();

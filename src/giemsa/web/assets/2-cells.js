/* The cells' page: pictures in, verdicts out; all that is shown lives in this browser and nowhere else. */
"use strict";

(() => {
  const { $, h, redraw, VERDICTS, wordOf, probability, count, call, linesOf, trouble, say, download, figureOf, dashReady } = window.giemsa;
  const BATCH = 32; // files of one request
  const AT_ONCE = 3; // requests
  const FIRST = ["parasitized", "indeterminate", "not_a_cell", "unreadable", "uninfected"];
  const PICTURE = /\.(png|jpe?g|jpe|tiff?|bmp|webp|zip)$/i;

  const state = { cells: [], model: null, limits: null, shown: new Set(), view: "grid", evidence: false, order: "look", find: "", files: new Map(),
    stop: null, sent: 0 };
  window.giemsa.cells = state;

  /* ---- sending ---- */

  async function limits() {
    if (!state.limits) state.limits = (await window.giemsa.get("/api/v1/model")).limits;
    return state.limits;
  }

  /** Put files into requests that are neither too many nor too large; what is too large alone is a row at once. */
  function packed(files, most) {
    const batches = [];
    let batch = [];
    let bytes = 0;
    const room = most.body_bytes - 65_536; // for the headers of the parts
    for (const item of files) {
      const alone = /\.zip$/i.test(item.name);
      if (batch.length && (batch.length >= BATCH || bytes + item.file.size > room || alone)) { batches.push(batch); batch = []; bytes = 0; }
      batch.push(item);
      bytes += item.file.size + 4 * item.name.length + 300;
      if (alone) { batches.push(batch); batch = []; bytes = 0; }
    }
    if (batch.length) batches.push(batch);
    return batches;
  }

  async function judge(files) {
    if (!files.length) { say("There are no pictures in what was dropped."); trouble("There are no pictures in what was dropped: PNG, JPEG, TIFF, BMP, WebP or a zip of them."); return; }
    trouble("");
    const stop = new AbortController();
    state.stop = stop;
    const progress = { done: 0, all: files.length, files: files.length };
    showProgress(progress);
    try {
      const most = await limits();
      const fitting = files.filter((item) => item.file.size < most.body_bytes - 131_072);
      for (const item of files) {
        if (!fitting.includes(item)) {
          add([unreadable(item, `the file has ${(item.file.size / 2 ** 20).toFixed(0)} MB; this server takes at most ${(most.body_bytes / 2 ** 20).toFixed(0)}`)], state.sent++);
          progress.done += 1;
        }
      }
      const batches = packed(fitting, most).map((batch) => ({ batch, place: (state.sent += batch.length) - batch.length }));
      const worker = async () => {
        while (batches.length && !stop.signal.aborted) {
          const { batch, place } = batches.shift();
          await judgeBatch(batch, place, stop.signal, progress);
        }
      };
      await Promise.all(Array.from({ length: AT_ONCE }, worker));
    } catch (error) {
      stop.abort();
      if (error.name !== "AbortError") trouble(error instanceof TypeError ? "The server cannot be reached; is it still running? What is shown was judged, and the rest was not." : `${error.message}.`);
    } finally {
      state.stop = null;
      $("progress").hidden = true;
      render();
      say(summary());
      document.body.dataset.judged = String(state.cells.length);
    }
  }

  /** Send some files, and add their cells as they are judged; an archive is alone in its batch. */
  async function judgeBatch(batch, place, signal, progress) {
    const body = new FormData();
    for (const { file, name } of batch) body.append("files", file, name);
    let before = 0;
    const onBusy = (why) => showProgress(progress, `Waiting: ${why}.`);
    try {
      const options = { method: "POST", headers: { Accept: "application/x-ndjson" }, body, signal, onBusy };
      const answer = await call("/api/v1/cells?include=digest&include=picture&include=evidence", options);
      for await (const said of linesOf(answer)) {
        if (said.problem) throw new Error(said.problem.detail);
        if (said.model) {
          state.model = said.model;
          progress.all += said.of - batch.length;
        } else {
          add(said.cells.map((cell, index) => ofItem(cell, batch.length === said.of ? batch[before + index] : batch[0])), place, before, said.of);
          progress.done += said.judged - before;
          before = said.judged;
        }
        showProgress(progress);
      }
    } catch (error) {
      if (![400, 408, 413].includes(error.status)) throw error;
      add(batch.map((item) => unreadable(item, error.message)), place);
      progress.done += batch.length;
      showProgress(progress);
    }
  }

  /** Name a cell as its file is, whose quotes browsers send as %22, and remember the file for a reviewer who keeps it. */
  function ofItem(cell, { file, name }) {
    const sent = name.replaceAll('"', "%22");
    const image = cell.image === sent || cell.image.startsWith(`${sent}/`) ? name + cell.image.slice(sent.length) : cell.image;
    return { ...cell, image, file };
  }

  const unreadable = (item, reason) => ({ image: item.name, verdict: "unreadable", p_parasitized: null, novelty: null, reason, sha256: null, picture: null, evidence: null });

  /** Add cells, the `before`th of `of` and those after it, of what was sent in one place. */
  function add(cells, place, before = 0, of = cells.length) {
    cells.forEach((cell, index) => { cell.place = place + (before + index) / (of + 1); cell.id = String(state.cells.length); state.cells.push(cell); });
    schedule();
  }

  /** Draw soon, once for all that comes until then. */
  let scheduled = null;
  function schedule() {
    if (scheduled === null) scheduled = setTimeout(render, state.cells.length > 400 ? 700 : 150);
  }

  function showProgress({ done, all, files }, waiting) {
    $("progress").hidden = false;
    $("progress-bar").max = all;
    if (done || all > 1) $("progress-bar").value = done; else $("progress-bar").removeAttribute("value");
    $("progress-text").textContent = waiting || (done || all > 1 ? `${done.toLocaleString("en")} of ${count(all, "cell")} read` : `Sending ${count(files, "file")} …`);
  }

  /* ---- what is shown ---- */

  const evidenceScale = () => {
    const peaks = state.cells.filter((cell) => cell.evidence).map((cell) => Math.max(...cell.evidence.flat().map(Math.abs))).sort((a, b) => a - b);
    return peaks.length ? peaks[Math.floor(0.9 * (peaks.length - 1))] || 1 : 1;
  };

  function ordered() {
    const threshold = state.model ? state.model.threshold : 0.5;
    const rank = (cell) => FIRST.indexOf(cell.verdict);
    const p = (cell) => (cell.p_parasitized === null ? -1 : cell.p_parasitized);
    const by = {
      look: (a, b) => rank(a) - rank(b) || p(b) - p(a) || a.place - b.place,
      sent: (a, b) => a.place - b.place,
      name: (a, b) => a.image.localeCompare(b.image, "en", { numeric: true }) || a.place - b.place,
      doubt: (a, b) => (p(a) < 0) - (p(b) < 0) || Math.abs(p(a) - threshold) - Math.abs(p(b) - threshold) || a.place - b.place,
    };
    const find = state.find.toLowerCase();
    return state.cells
      .filter((cell) => (!state.shown.size || state.shown.has(cell.verdict)) && (!find || cell.image.toLowerCase().includes(find)))
      .sort(by[state.order]);
  }
  state.ordered = ordered;

  const counts = () => {
    const each = Object.fromEntries(FIRST.map((name) => [name, 0]));
    for (const cell of state.cells) each[cell.verdict] += 1;
    return each;
  };

  function summary() {
    const each = counts();
    return `${count(state.cells.length, "cell")}: ${Object.entries(each).filter(([name, n]) => n || ["parasitized", "uninfected"].includes(name))
      .map(([name, n]) => `${n.toLocaleString("en")} ${VERDICTS[name].word}`).join(", ")}.`;
  }

  function render() {
    clearTimeout(scheduled);
    scheduled = null;
    const any = state.cells.length > 0;
    document.body.classList.toggle("has-cells", any);
    $("results").hidden = !any;
    showTableBox();
    if (!any) return;
    renderTotals();
    const cells = ordered();
    $("none").hidden = cells.length > 0 || state.view === "table";
    $("grid").hidden = state.view !== "grid";
    for (const field of document.querySelectorAll(".grid-only")) field.hidden = state.view !== "grid";
    $("evidence-legend").hidden = !state.evidence;
    if (state.view === "grid") renderGrid(cells); else renderTable(cells);
  }

  function renderTotals() {
    const each = counts();
    const readable = state.cells.length - each.unreadable;
    const box = $("totals");
    const total = (name, n, word, share) => h("button", { class: "total", type: "button", "data-total": name, "data-verdict": name === "all" ? null : name,
      "aria-pressed": String(name === "all" ? !state.shown.size : state.shown.has(name)), onclick: () => toggle(name) },
      h("b", {}, n.toLocaleString("en")), h("span", { class: "share" }, share), word);
    redraw(box, total("all", state.cells.length, h("span", { class: "word" }, "all"), ""),
      ...FIRST.filter((name) => each[name] || name === "parasitized" || name === "uninfected").map((name) =>
        total(name, each[name], wordOf(name), name !== "unreadable" && readable ? `${((100 * each[name]) / readable).toFixed(1)} %` : "")));
  }

  function toggle(name) {
    if (name === "all") state.shown.clear();
    else if (state.shown.has(name)) state.shown.delete(name);
    else state.shown.add(name);
    render();
  }

  const cards = new Map();
  function renderGrid(cells) {
    const scale = state.evidence ? evidenceScale() : 0;
    if (cards.scale !== scale) { cards.clear(); cards.scale = scale; }
    const items = cells.map((cell) => {
      if (!cards.has(cell.id)) cards.set(cell.id, card(cell, scale));
      return cards.get(cell.id);
    });
    redraw($("grid"), ...items);
  }

  /** Leave out the middle of a long name: names differ at both ends. */
  function shortName(name) {
    const last = name.slice(name.lastIndexOf("/") + 1) || name;
    return last.length > 22 ? `${last.slice(0, 7)}…${last.slice(-14)}` : last;
  }

  function card(cell, scale) {
    const said = [cell.p_parasitized === null ? null : h("span", { class: "p" }, "p parasitized ", probability(cell.p_parasitized)),
      cell.reason ? h("span", { class: "why" }, cell.reason) : null];
    return h("li", { class: "cell" }, h("button", { type: "button", "data-cell": cell.id, title: cell.image, onclick: () => look(cell) }, figureOf(cell, scale),
      h("span", { class: "words", "data-verdict": cell.verdict }, wordOf(cell.verdict), said, h("span", { class: "name" }, shortName(cell.image)))));
  }

  /* ---- one cell, large ---- */

  function look(cell) {
    const dialog = $("look");
    const cells = ordered();
    const at = cells.indexOf(cell);
    const move = (step) => { const next = cells[at + step]; if (next) look(next); };
    const facts = [["p parasitized", cell.p_parasitized === null ? null : `${probability(cell.p_parasitized)} (parasitized from ${state.model.threshold})`],
      ["novelty", cell.novelty === null ? null : cell.novelty.toFixed(3)], ["reason", cell.reason || null], ["SHA-256", cell.sha256]];
    const shown = (on) => figureOf(cell, on ? evidenceScale() : 0);
    const picture = h("div", {}, shown(state.evidence));
    const box = h("input", { type: "checkbox", role: "switch", onchange: () => { state.evidence = box.checked; $("evidence").checked = box.checked; picture.replaceChildren(shown(box.checked)); render(); } });
    box.checked = state.evidence;
    dialog.replaceChildren(h("div", { class: "look" },
      h("div", {}, picture),
      h("div", {}, h("h2", { id: "look-name" }, cell.image), wordOf(cell.verdict),
        h("dl", { class: "facts" }, facts.filter(([, value]) => value).map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)])),
        cell.evidence ? h("label", { class: "switch" }, box, h("span", { class: "knob", "aria-hidden": "true" }), "Evidence") : null,
        h("p", { class: "quiet" }, `${at + 1} of ${cells.length.toLocaleString("en")}; arrow keys move.`),
        h("div", { class: "look-buttons" },
          h("button", { type: "button", disabled: at <= 0, onclick: () => move(-1) }, "Previous"),
          h("button", { type: "button", disabled: at + 1 >= cells.length, onclick: () => move(1) }, "Next"),
          h("button", { type: "button", class: "primary", onclick: () => dialog.close() }, "Close")))));
    dialog.onkeydown = (event) => {
      if (event.key === "ArrowRight") move(1);
      if (event.key === "ArrowLeft") move(-1);
    };
    dialog.onclick = (event) => { if (event.target === dialog) dialog.close(); };
    if (!dialog.open) dialog.showModal();
    dialog.querySelector(".primary").focus();
  }
  state.look = look;
  state.judge = judge;

  /* ---- the table, which is Dash's ---- */

  function showTableBox() {
    dashReady.then(() => { $("table-box").hidden = !(document.body.dataset.page === "cells" && state.view === "table" && state.cells.length); });
  }
  async function renderTable(cells) {
    const dash = await dashReady;
    dash.set_props("table", { rowData: cells.map(({ id, picture, image, verdict, p_parasitized, novelty, reason }) => ({ id, picture, image, verdict, p_parasitized, novelty, reason })) });
  }
  const components = (window.dashAgGridComponentFunctions = window.dashAgGridComponentFunctions || {});
  const functions = (window.dashAgGridFunctions = window.dashAgGridFunctions || {});
  components.GiemsaPicture = (props) => (props.value ? React.createElement("img", { src: props.value, className: "mini", alt: "" }) : null);
  components.GiemsaVerdict = (props) => React.createElement("span", { className: "word", "data-verdict": props.value },
    React.createElement("span", { className: "sign", "aria-hidden": "true" }, VERDICTS[props.value].sign), VERDICTS[props.value].word);
  functions.giemsaProbability = probability;
  window.dash_clientside = Object.assign({}, window.dash_clientside);
  window.dash_clientside.giemsa = Object.assign({}, window.dash_clientside.giemsa, {
    tableClicked: (clicked) => { const cell = clicked && state.cells[Number(clicked.rowId)]; if (cell) look(cell); return null; },
  });

  /* ---- files to keep ---- */

  const quoted = (value) => (/[",\r\n]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value);
  function csv() {
    const columns = ["image", "verdict", "p_parasitized", "novelty", "reason"];
    const rows = state.cells.slice().sort((a, b) => a.place - b.place);
    return [columns.join(","), ...rows.map((cell) => columns.map((name) => (cell[name] === null ? "" : quoted(String(cell[name])))).join(","))].join("\n") + "\n";
  }

  const escaped = (text) => String(text).replace(/[&<>"']/g, (found) => `&#${found.charCodeAt(0)};`);

  function report() {
    const scale = evidenceScale();
    const model = state.model ? `Model ${state.model.name} (SHA-256 ${state.model.sha256}), ${state.model.provider}, Giemsa ${state.model.giemsa}; parasitized where p_parasitized >= ${state.model.threshold}.` : "Nothing was judged.";
    const cells = ordered().map((cell) => {
      const overlay = state.evidence && cell.evidence ? `<img class="over" alt="" src="${window.giemsa.evidenceCanvas(cell.evidence, scale).toDataURL()}">` : "";
      const picture = cell.picture ? `<div class="pic"><img alt="" src="${cell.picture}">${overlay}</div>` : `<div class="pic none">✕</div>`;
      return `<li class="${cell.verdict}">${picture}<b>${VERDICTS[cell.verdict].sign} ${VERDICTS[cell.verdict].word}</b><span>${[cell.p_parasitized === null ? "" : `p parasitized ${escaped(probability(cell.p_parasitized))}`, escaped(cell.reason)].filter(Boolean).join("<br>")}</span><small>${escaped(cell.image)}</small></li>`;
    });
    const some = cells.length < state.cells.length ? ` Shown are ${cells.length.toLocaleString("en")} of them.` : "";
    return `<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1"><title>Giemsa: ${escaped(summary())}</title><style>
body{font:15px/1.45 system-ui,sans-serif;margin:1.5rem auto;max-width:1200px;padding:0 1rem;color:#1d1b22;background:#fff}
ul{list-style:none;padding:0;display:grid;gap:.8rem;grid-template-columns:repeat(auto-fill,minmax(150px,1fr))}
li{border:1px solid #d9d4dc;border-top:5px solid currentColor;border-radius:8px;padding:.5rem;display:grid;gap:.15rem;align-content:start;break-inside:avoid}
li span{color:#1d1b22}li small{color:#5c5866;overflow-wrap:anywhere}.pic{position:relative;width:100%;max-width:160px}.pic img{display:block;width:100%}
.pic.none{font-size:2rem}.pic .over{position:absolute;inset:0;height:100%}.parasitized{color:#a84600}.uninfected{color:#00609b;border-top-width:1px}.indeterminate{color:#9b3b78}
.not_a_cell{color:#00704f}.unreadable{color:#625c57}.disclaimer{border:2px solid;padding:.6rem .9rem;border-radius:8px}</style></head><body>
<h1>${escaped(summary())}</h1><p class="disclaimer"><strong>${escaped(document.querySelector("footer.disclaimer").textContent)}</strong></p>
<p>${escaped(model)} Made ${escaped(new Date().toISOString().replace(/\.\d+Z/, "Z"))}.${some}</p><ul>${cells.join("\n")}</ul></body></html>\n`;
  }

  /* ---- what people do ---- */

  async function filesOf(transfer) {
    const entries = [...transfer.items].map((item) => item.webkitGetAsEntry && item.webkitGetAsEntry()).filter(Boolean);
    if (!entries.some((entry) => entry.isDirectory)) return [...transfer.files].map((file) => ({ file, name: file.name }));
    const found = [];
    const walk = async (entry, path) => {
      if (entry.name.startsWith(".") || entry.name === "__MACOSX") return;
      if (entry.isFile) {
        const file = await new Promise((done, failed) => entry.file(done, failed));
        if (!path || PICTURE.test(entry.name)) found.push({ file, name: path + entry.name });
        return;
      }
      const reader = entry.createReader();
      for (;;) {
        const some = await new Promise((done, failed) => reader.readEntries(done, failed));
        if (!some.length) break;
        for (const inner of some) await walk(inner, `${path}${entry.name}/`);
      }
    };
    for (const entry of entries) await walk(entry, "");
    return found.sort((a, b) => a.name.localeCompare(b.name, "en"));
  }

  state.filesOf = filesOf;

  addEventListener("DOMContentLoaded", () => {
    const drop = $("drop");
    $("choose").addEventListener("click", () => $("files").click());
    $("files").addEventListener("change", () => {
      const files = [...$("files").files].map((file) => ({ file, name: file.name }));
      $("files").value = "";
      judge(files);
    });
    $("examples").addEventListener("click", async () => {
      try { judge([{ file: await (await call("/examples.zip")).blob(), name: "examples.zip" }]); } catch (error) { trouble(`${error.message}.`); }
    });
    addEventListener("dragover", (event) => { event.preventDefault(); if (document.body.dataset.page === "cells") drop.classList.add("over"); });
    addEventListener("dragleave", (event) => { if (!event.relatedTarget) drop.classList.remove("over"); });
    addEventListener("drop", async (event) => {
      event.preventDefault();
      drop.classList.remove("over");
      if (document.body.dataset.page === "cells") judge(await filesOf(event.dataTransfer));
    });
    $("stop").addEventListener("click", () => { if (state.stop) state.stop.abort(); });
    $("evidence").addEventListener("change", () => { state.evidence = $("evidence").checked; render(); });
    $("order").addEventListener("change", () => { state.order = $("order").value; render(); });
    $("find").addEventListener("input", () => { state.find = $("find").value; render(); });
    $("show-all").addEventListener("click", () => { state.shown.clear(); state.find = $("find").value = ""; render(); });
    for (const view of ["grid", "table"]) {
      $(`view-${view}`).addEventListener("click", () => {
        state.view = view;
        for (const other of ["grid", "table"]) $(`view-${other}`).setAttribute("aria-pressed", String(other === view));
        render();
      });
    }
    $("to-review").addEventListener("click", () => window.giemsa.show("/review", true));
    $("save-csv").addEventListener("click", () => download("verdicts.csv", "text/csv", csv()));
    $("save-report").addEventListener("click", () => download("verdicts.html", "text/html", report()));
    $("clear").addEventListener("click", () => {
      if (state.stop) state.stop.abort();
      state.cells = []; state.shown.clear(); state.sent = 0; cards.clear(); delete document.body.dataset.judged;
      render();
      $("choose").focus();
    });
  });
  document.addEventListener("giemsa-page", showTableBox);
})();

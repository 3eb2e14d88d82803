/* The smear's page: photographs of fields in; the count with its error, what a person should look at, and the report out. */
"use strict";

(() => {
  const { $, h, wordOf, count, call, get, trouble, say, download, page } = window.giemsa;
  const PATH = "/api/v1/smears?include=picture&include=report";
  const state = { files: [], answer: null, stop: null };
  window.giemsa.smear = state;

  page("smear", () => { trouble(""); });

  /* ---- sending ---- */

  async function read(files) {
    if (state.stop || !files.length) {
      trouble(state.stop ? "A smear is being read; stop it first." : "There are no photographs in what was dropped: PNG, JPEG, TIFF, BMP, WebP or a zip of them.");
      return;
    }
    trouble("");
    state.files = files;
    const stop = new AbortController();
    state.stop = stop;
    delete document.body.dataset.smear;
    const bytes = files.reduce((sum, { file }) => sum + file.size, 0);
    const size = `${Math.max(1, Math.round(bytes / 2 ** 20)).toLocaleString("en")} MB`;
    showProgress(`Sending ${count(files.length, "file")}, ${size} …`);
    try {
      const most = (await get("/api/v1/model")).limits.body_bytes;
      if (bytes > most - 131_072) {
        throw new Error(`These photographs have ${size} together; this server takes ${Math.round(most / 2 ** 20)} at a time. Send fewer, start it with a larger --max-upload-mb, or use giemsa smear`);
      }
      const onBusy = (why) => showProgress(`Waiting: ${why}.`);
      const answer = await call(PATH, { method: "POST", headers: { Accept: "application/x-ndjson" }, body: body(files), signal: stop.signal, onBusy });
      state.answer = await lastOf(answer);
      render();
      say(state.answer.sentences[0]);
      document.body.dataset.smear = String(state.answer.fields.length);
    } catch (error) {
      if (error.name === "AbortError") say("Stopped.");
      else trouble(error instanceof TypeError ? "The server cannot be reached, or went away; nothing was counted." : `${error.message}.`);
    } finally {
      state.stop = null;
      $("smear-progress").hidden = true;
    }
  }

  function body(files) {
    const form = new FormData();
    for (const [name, id] of [["patient", "smear-patient"], ["cell_diameter_px", "smear-diameter"], ["red_cells_per_ul", "smear-red-cells"]]) {
      const text = $(id).value.trim();
      if (text) form.append(name, name === "patient" ? text : text.replaceAll(",", ""));
    }
    for (const { file, name } of files) form.append("files", file, name);
    return form;
  }

  /** Follow the lines of an answer, one a field, to the last one. */
  async function lastOf(answer) {
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let pieces = [];
    for (;;) {
      const { value, done } = await reader.read();
      if (done) throw new TypeError("the answer breaks off");
      const lines = value.split("\n");
      for (const line of lines.slice(0, -1)) {
        const said = JSON.parse(pieces.join("") + line);
        pieces = [];
        if (said.smear) return said.smear;
        if (said.problem) throw new Error(said.problem.detail);
        if (!said.read) showProgress(`Reading ${count(said.of, "field")} …`, said);
        else showProgress(`${said.read.toLocaleString("en")} of ${count(said.of, "field")} read; the last, ${said.field}: ${said.refusal ? "left out" : count(said.red_cells, "red cell")}`, said);
      }
      pieces.push(lines.at(-1));
    }
  }

  function showProgress(text, said) {
    $("smear-progress").hidden = false;
    $("smear-progress-text").textContent = text;
    if (said) { $("smear-bar").max = said.of; $("smear-bar").value = said.read; } else $("smear-bar").removeAttribute("value");
  }

  /* ---- what came of it ---- */

  function render() {
    const { sentences, summary, fields, suspicious } = state.answer;
    const leftOut = new Set(summary.refused.map(([field, reason]) => `Left out: ${field}, ${reason}.`));
    const rest = sentences.slice(1).filter((sentence) => !leftOut.has(sentence));
    document.body.classList.add("has-smear");
    $("smear-result").replaceChildren(
      h("div", { class: "smear-count" },
        summary.patient ? h("p", { class: "quiet" }, summary.patient) : null,
        h("p", { class: "headline" }, sentences[0]),
        h("ul", {}, rest.map((sentence) => h("li", {}, sentence))),
        h("div", { class: "drop-buttons" },
          h("button", { id: "smear-report", class: "primary", type: "button", onclick: saveReport }, "Download report"),
          h("button", { id: "smear-again", type: "button", onclick: () => read(state.files) }, "Count again"),
          h("button", { id: "smear-clear", class: "plain", type: "button", onclick: clear }, "Clear")),
        h("p", { class: "quiet" }, "The report is one file that opens anywhere. In it a person confirms or rejects each suspicious cell, and the count follows.")),
      ...refusedFields(fields), ...suspiciousCells(suspicious, summary), ...fieldTable(fields));
  }

  function refusedFields(fields) {
    const refused = fields.filter((one) => one.refusal);
    if (!refused.length) return [];
    return [h("h2", {}, `${count(refused.length, "field")} left out`),
      h("ul", { id: "smear-refused" }, refused.map((one) => h("li", {}, h("b", {}, one.field), `: ${one.refusal}`)))];
  }

  function suspiciousCells(cells, summary) {
    if (!cells.length) return [];
    return [h("h2", {}, "Look at these cells"),
      h("p", { class: "quiet" }, `${count(cells.length, "cell")}, the most suspicious first: how far each lies above the healthy cells of this smear, in their spreads. From ${summary.cut} it is called parasitized.`),
      h("ul", { id: "smear-cells", class: "grid" }, cells.map((cell) => h("li", { class: "cell" }, h("button", { type: "button", title: cell.field, onclick: () => look(cell) },
        shown(cell), h("span", { class: "words", "data-verdict": cell.verdict }, wordOf(cell.verdict), h("span", { class: "p" }, `${cell.relative_logit.toFixed(1)} spreads above`),
          h("span", { class: "name" }, cell.field.slice(cell.field.lastIndexOf("/") + 1)))))))];
  }

  const shown = (cell) => h("div", { class: "shown" }, cell.picture ? h("img", { src: cell.picture, alt: "", loading: "lazy" }) : null);

  function look(cell) {
    const dialog = $("look");
    const cells = state.answer.suspicious;
    const at = cells.indexOf(cell);
    const move = (step) => { const next = cells[at + step]; if (next) look(next); };
    const facts = [["above healthy cells", `${cell.relative_logit.toFixed(2)} spreads`], ["diameter", `${cell.diameter_um.toFixed(1)} micrometres`],
      ["in the field", `x ${cell.x0} to ${cell.x1}, y ${cell.y0} to ${cell.y1}`]];
    dialog.replaceChildren(h("div", { class: "look" }, h("div", {}, shown(cell)),
      h("div", {}, h("h2", { id: "look-name" }, cell.field), wordOf(cell.verdict),
        h("dl", { class: "facts" }, facts.map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)])),
        h("p", { class: "quiet" }, `${at + 1} of ${cells.length}; arrow keys move.`),
        h("div", { class: "look-buttons" },
          h("button", { type: "button", disabled: at <= 0, onclick: () => move(-1) }, "Previous"),
          h("button", { type: "button", disabled: at + 1 >= cells.length, onclick: () => move(1) }, "Next"),
          h("button", { type: "button", class: "primary", onclick: () => dialog.close() }, "Close")))));
    dialog.onkeydown = (event) => { if (event.key === "ArrowRight") move(1); if (event.key === "ArrowLeft") move(-1); };
    dialog.onclick = (event) => { if (event.target === dialog) dialog.close(); };
    if (!dialog.open) dialog.showModal();
    dialog.querySelector(".primary").focus();
  }

  function fieldTable(fields) {
    const number = (value) => h("td", {}, value === null ? "" : value.toLocaleString("en"));
    return [h("h2", {}, "Fields"), h("div", { class: "table-scroll", tabindex: "0", role: "region", "aria-label": "Fields" },
      h("table", { id: "smear-fields", class: "plain-table" },
        h("thead", {}, h("tr", {}, ["Field", "Red cells", "Called parasitized", "Cut by the border", "Cell, px", "Use"].map((word) => h("th", { scope: "col" }, word)))),
        h("tbody", {}, fields.map((one) => h("tr", {}, h("th", { scope: "row" }, one.field), number(one.refusal ? null : one.red_cells), number(one.refusal ? null : one.parasitized),
          number(one.refusal ? null : one.cells_cut), number(one.cell_diameter_px), h("td", { class: "text" }, one.refusal ? "left out" : "counted"))))))];
  }

  function saveReport() {
    const name = state.answer.summary.patient.replace(/[^\p{L}\p{N}_-]+/gu, "_");
    download(name ? `report-${name}.html` : "report.html", "text/html", state.answer.report);
  }

  function clear() {
    state.answer = null;
    state.files = [];
    document.body.classList.remove("has-smear");
    delete document.body.dataset.smear;
    $("smear-result").replaceChildren();
    $("smear-form").reset();
    $("smear-choose").focus();
  }

  /* ---- what people do ---- */

  addEventListener("DOMContentLoaded", () => {
    const here = () => document.body.dataset.page === "smear";
    const drop = $("smear-drop");
    $("smear-form").addEventListener("submit", (event) => event.preventDefault());
    $("smear-choose").addEventListener("click", () => $("smear-files").click());
    $("smear-files").addEventListener("change", () => {
      const files = [...$("smear-files").files].map((file) => ({ file, name: file.name }));
      $("smear-files").value = "";
      read(files);
    });
    $("smear-stop").addEventListener("click", () => { if (state.stop) state.stop.abort(); });
    addEventListener("dragover", () => { if (here()) drop.classList.add("over"); });
    addEventListener("dragleave", (event) => { if (!event.relatedTarget) drop.classList.remove("over"); });
    addEventListener("drop", async (event) => {
      drop.classList.remove("over");
      if (here()) read(await window.giemsa.cells.filesOf(event.dataTransfer));
    });
  });
})();

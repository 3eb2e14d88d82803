/* The smear's page: photographs of fields in; the report of `giemsa smear` out, live in the page, for a person to decide. */
"use strict";

(() => {
  const { $, h, count, call, linesOf, get, trouble, say, download, page } = window.giemsa;
  const PATH = "/api/v1/smears?include=report";
  const state = { files: [], summary: null, report: null, live: null, stop: null };
  window.giemsa.smear = state;

  page("smear", () => { trouble(""); });

  /* ---- sending ---- */

  async function read(files) {
    if (state.stop || !files.length) {
      trouble(state.stop ? "A smear is being read; stop it first." : "There are no photographs in what was dropped: PNG, JPEG, TIFF, BMP, WebP or a zip of them.");
      return;
    }
    if (state.live && state.live.unsaved && files !== state.files && !confirm("Your decisions on this smear are not saved. Read another one, and lose them?")) return;
    trouble("");
    const stop = new AbortController();
    state.stop = stop;
    delete document.body.dataset.smear;
    const bytes = files.reduce((sum, { file }) => sum + file.size, 0);
    const size = bytes < 2 ** 20 ? `${Math.ceil(bytes / 1024)} kB` : `${Math.round(bytes / 2 ** 20).toLocaleString("en")} MB`;
    showProgress(`Sending ${count(files.length, "file")}, ${size} …`);
    try {
      const most = (await get("/api/v1/model")).limits.body_bytes;
      if (bytes > most - 131_072) {
        throw new Error(`These photographs have ${size} together; this server takes ${Math.round(most / 2 ** 20)} MB at a time. Send fewer, start it with a larger --max-upload-mb, or use giemsa smear`);
      }
      const onBusy = (why) => showProgress(`Waiting: ${why}.`);
      const answer = await call(PATH, { method: "POST", headers: { Accept: "application/x-ndjson" }, body: body(files), signal: stop.signal, onBusy });
      const smear = await lastOf(answer);
      const before = state.live && files === state.files ? state.live : null;
      state.files = files;
      render(smear, before);
      say(smear.sentences[0]);
      document.body.dataset.smear = String(smear.fields.length);
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
    for await (const said of linesOf(answer)) {
      if (said.smear) return said.smear;
      if (said.problem) throw new Error(said.problem.detail);
      if (!said.read) showProgress(`Reading ${count(said.of, "field")} …`, said);
      else showProgress(`${said.read.toLocaleString("en")} of ${count(said.of, "field")} read; the last, ${said.field}: ${said.refusal ? `left out, ${said.refusal}` : count(said.red_cells, "red cell")}`, said);
    }
    throw new TypeError("the answer breaks off");
  }

  function showProgress(text, said) {
    $("smear-progress").hidden = false;
    $("smear-progress-text").textContent = text;
    if (said) { $("smear-bar").max = said.of; $("smear-bar").value = said.read; } else $("smear-bar").removeAttribute("value");
  }

  /* ---- what came of it ---- */

  /** Show the report in a tree of its own, so that its style stays in it; report.js makes it live, as in the file. */
  function render(smear, before) {
    state.summary = smear.summary;
    state.report = new DOMParser().parseFromString(smear.report, "text/html"); // its scripts do not run
    const button = (id, text, act, look) => h("button", { id, class: look, type: "button", onclick: act }, text);
    const host = h("div", { id: "smear-live" }, h("div", { class: "row", role: "group", "aria-label": "This smear" },
      button("smear-report", "Download report", saveReport, "primary"), button("smear-load", "Load decisions", () => $("smear-decisions").click()),
      button("smear-again", "Count again", () => read(state.files)), button("smear-clear", "Clear", clear, "plain")));
    const root = host.attachShadow({ mode: "open" });
    const parts = [...state.report.querySelectorAll("style, header, main > section")].map((part) => document.importNode(part, true));
    root.append(...parts);
    root.querySelector("h1").replaceWith(smear.summary.patient ? h("p", {}, smear.summary.patient) : "");
    root.querySelector("header").append(h("slot")); // where the buttons go
    $("smear-result").replaceChildren(host);
    document.body.classList.add("has-smear");
    if (state.live) state.live.end();
    const data = JSON.parse(state.report.getElementById("data").textContent);
    state.live = window.giemsaReport.live(root, data, () => document.body.dataset.page === "smear" && !document.querySelector("dialog[open]"));
    if (before) { apply(before.decisions()); state.live.unsaved = before.unsaved; }
  }

  /** Write the report as it was, with what was decided since. */
  function saveReport() {
    const data = JSON.stringify(state.live.data).replace(/[<>&\u2028\u2029]/g, (found) => `\\u${found.charCodeAt(0).toString(16).padStart(4, "0")}`);
    state.report.getElementById("data").textContent = data;
    const name = state.summary.patient.replace(/[^\p{L}\p{N}_-]+/gu, "_");
    download(name ? `report-${name}.html` : "report.html", "text/html", `<!doctype html>\n${state.report.documentElement.outerHTML}`);
    state.live.unsaved = false;
  }

  async function load(file) {
    try {
      const saved = JSON.parse(await file.text());
      apply(saved);
    } catch (error) {
      trouble(`${file.name} cannot be taken: ${error instanceof SyntaxError ? "this is no file of decisions as a report saves them" : error.message}.`);
    }
  }

  function apply(saved) {
    const missing = state.live.apply(saved);
    trouble(missing ? `${count(missing, "decision")} of ${saved.cells.length} are on cells that this smear does not have, or does not show; they were left out.` : "");
    say(`${count(saved.cells.length - missing, "decision")} taken over.`);
  }

  function clear() {
    if (state.live && state.live.unsaved && !confirm("Your decisions on this smear are not saved. Clear it, and lose them?")) return;
    if (state.live) state.live.end();
    Object.assign(state, { files: [], summary: null, report: null, live: null });
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
    $("smear-examples").addEventListener("click", async () => {
      try { read([{ file: await (await call("/example-fields.zip")).blob(), name: "drawn.zip" }]); } catch (error) { trouble(`${error.message}.`); }
    });
    $("smear-decisions").addEventListener("change", () => {
      const [file] = $("smear-decisions").files;
      $("smear-decisions").value = "";
      if (file) load(file);
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

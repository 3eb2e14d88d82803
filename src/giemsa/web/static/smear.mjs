// @ts-check
/** The part *Smear*: photographs of fields in; the report of `giemsa smear` out, live here, for a person to decide. */
/** @import { Item, Smear } from "./types.mjs" */
import { call, get, linesOf } from "./api.mjs";
import { $, element, h } from "./dom.mjs";
import { download, filesIn, takeDrops } from "./files.mjs";
import { say, trouble, troubleOf } from "./notices.mjs";
import { isShown, onShow } from "./pages.mjs";
import { Report } from "./reports.mjs";
import { count, megabytes } from "./words.mjs";

const PATH = "/api/v1/smears?include=report";
const LOST = "Your decisions on this smear are not saved.";

/**
 * @typedef {object} Live
 * @property {object} data
 * @property {boolean} unsaved
 * @property {() => object} decisions
 * @property {(saved: any) => number} apply
 * @property {() => void} end
 */

/**
 * What a report's own script makes of it; the script is a part of the report, which is a file that stands alone.
 *
 * @type {{ live: (root: ShadowRoot, data: object, when: () => boolean) => Live }}
 */
const reportScript = /** @type {any} */ (globalThis).giemsaReport;

const state = {
  /** @type {Item[]} */
  files: [],
  patient: "",
  /** @type {Report | null} */
  report: null,
  /** @type {Live | null} */
  live: null,
  /** @type {AbortController | null} */
  stop: null,
};

/* ---- sending ---- */

/** @param {Item[]} files */
async function read(files) {
  if (state.stop) {
    trouble("A smear is being read; stop it first.");
    return;
  }
  if (!files.length) {
    trouble("There are no photographs in what was dropped: PNG, JPEG, TIFF, BMP, WebP or a zip of them.");
    return;
  }
  if (state.live?.unsaved && files !== state.files && !confirm(`${LOST} Read another one, and lose them?`)) return;
  trouble("");
  const stop = new AbortController();
  state.stop = stop;
  delete document.body.dataset.smear;
  try {
    const smear = await readAll(files, stop.signal);
    const before = state.live && files === state.files ? state.live : null;
    state.files = files;
    render(smear, before);
    say(smear.sentences[0]);
    document.body.dataset.smear = String(smear.fields.length);
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") say("Stopped.");
    else if (error instanceof TypeError) trouble("The server cannot be reached, or went away; nothing was counted.");
    else troubleOf(error);
  } finally {
    state.stop = null;
    $("smear-progress").hidden = true;
  }
}

/**
 * @param {Item[]} files
 * @param {AbortSignal} signal
 */
async function readAll(files, signal) {
  const bytes = files.reduce((sum, { file }) => sum + file.size, 0);
  const size = bytes < 2 ** 20 ? `${Math.ceil(bytes / 1024)} kB` : megabytes(bytes);
  showProgress(`Sending ${count(files.length, "file")}, ${size} …`);
  const most = (await get("/api/v1/model")).limits.body_bytes;
  if (bytes > most - 131_072) {
    throw new Error(
      `These photographs have ${size} together; this server takes ${megabytes(most)} at a time. ` +
        "Send fewer, start it with a larger --max-upload-mb, or use giemsa smear",
    );
  }
  const onBusy = (/** @type {string} */ why) => showProgress(`Waiting: ${why}.`);
  const headers = { Accept: "application/x-ndjson" };
  return lastOf(await call(PATH, { method: "POST", headers, body: bodyOf(files), signal, onBusy }));
}

/** @param {Item[]} files */
function bodyOf(files) {
  const form = new FormData();
  const text = (/** @type {string} */ id) => element(id, HTMLInputElement).value.trim();
  const numbers = { cell_diameter_px: text("smear-diameter"), red_cells_per_ul: text("smear-red-cells") };
  if (text("smear-patient")) form.append("patient", text("smear-patient"));
  for (const [name, value] of Object.entries(numbers)) if (value) form.append(name, value.replaceAll(",", ""));
  for (const { file, name } of files) form.append("files", file, name);
  return form;
}

/**
 * Follow the lines of an answer, one a field, to the last one.
 *
 * @param {Response} answer
 * @returns {Promise<Smear>}
 */
async function lastOf(answer) {
  for await (const said of linesOf(answer)) {
    if (said.smear) return said.smear;
    if (said.problem) throw new Error(said.problem.detail);
    const came = said.refusal ? `left out, ${said.refusal}` : count(said.red_cells ?? 0, "red cell");
    if (!said.read) showProgress(`Reading ${count(said.of, "field")} …`, said);
    else showProgress(`${said.read} of ${count(said.of, "field")} read; the last, ${said.field}: ${came}`, said);
  }
  throw new TypeError("the answer breaks off");
}

/**
 * @param {string} text
 * @param {{ of: number, read: number }} [said]
 */
function showProgress(text, said) {
  const bar = element("smear-bar", HTMLProgressElement);
  $("smear-progress").hidden = false;
  $("smear-progress-text").textContent = text;
  if (said) Object.assign(bar, { max: said.of, value: said.read });
  else bar.removeAttribute("value");
}

/* ---- what came of it ---- */

/**
 * Show the report in a tree of its own, so that its style stays in it; its script makes it live, as in the file.
 *
 * @param {Smear} smear
 * @param {Live | null} before what was decided on the same photographs
 */
function render(smear, before) {
  const report = new Report(smear.report);
  const host = h("div", { id: "smear-live" }, buttons());
  const root = host.attachShadow({ mode: "open" });
  root.adoptedStyleSheets = [report.sheet()];
  const parts = [...report.document.querySelectorAll("header, main > section")];
  root.append(...parts.map((part) => document.importNode(part, true)));
  const { patient } = smear.summary;
  root.querySelector("h1")?.replaceWith(patient ? h("p", {}, patient) : "");
  root.querySelector("header")?.append(h("slot")); // where the buttons go
  $("smear-result").replaceChildren(host);
  document.body.classList.add("has-smear");
  state.live?.end();
  const data = JSON.parse(report.get("data").textContent ?? "");
  const live = reportScript.live(root, data, () => isShown("smear") && !document.querySelector("dialog[open]"));
  Object.assign(state, { report, live, patient });
  if (before) {
    apply(before.decisions());
    live.unsaved = before.unsaved;
  }
}

function buttons() {
  const button = (/** @type {string} */ id, /** @type {string} */ text, /** @type {() => unknown} */ act, look = "") =>
    h("button", { id, class: look || null, type: "button", onclick: act }, text);
  return h(
    "div",
    { class: "row", role: "group", "aria-label": "This smear" },
    button("smear-report", "Download report", saveReport, "primary"),
    button("smear-load", "Load decisions", () => $("smear-decisions").click()),
    button("smear-again", "Count again", () => read(state.files)),
    button("smear-clear", "Clear", clear, "plain"),
  );
}

/** Write the report as it was, with what was decided since. */
function saveReport() {
  const { live, report } = state;
  if (!live || !report) return;
  const escaped = (/** @type {string} */ found) => `\\u${found.charCodeAt(0).toString(16).padStart(4, "0")}`;
  report.get("data").textContent = JSON.stringify(live.data).replace(/[<>&\u2028\u2029]/g, escaped);
  const name = state.patient.replace(/[^\p{L}\p{N}_-]+/gu, "_");
  download(name ? `report-${name}.html` : "report.html", "text/html", report.text());
  live.unsaved = false;
}

/** @param {Item} item */
async function load({ file, name }) {
  try {
    apply(JSON.parse(await file.text()));
  } catch (error) {
    const why = error instanceof SyntaxError ? "this is no file of decisions as a report saves them" : String(error);
    trouble(`${name} cannot be taken: ${why.replace(/^Error: /, "")}.`);
  }
}

/** @param {any} saved */
function apply(saved) {
  const missing = state.live?.apply(saved) ?? 0;
  const of = `${count(missing, "decision")} of ${saved.cells.length}`;
  trouble(missing ? `${of} are on cells that this smear does not have, or does not show; they were left out.` : "");
  say(`${count(saved.cells.length - missing, "decision")} taken over.`);
}

function clear() {
  if (state.live?.unsaved && !confirm(`${LOST} Clear it, and lose them?`)) return;
  state.live?.end();
  Object.assign(state, { files: [], patient: "", report: null, live: null });
  document.body.classList.remove("has-smear");
  delete document.body.dataset.smear;
  $("smear-result").replaceChildren();
  element("smear-form", HTMLFormElement).reset();
  $("smear-choose").focus();
}

/* ---- what people do ---- */

async function readExamples() {
  try {
    await read([{ file: await (await call("/example-fields.zip")).blob(), name: "drawn.zip" }]);
  } catch (error) {
    troubleOf(error);
  }
}

export function startSmear() {
  const files = element("smear-files", HTMLInputElement);
  const decisions = element("smear-decisions", HTMLInputElement);
  $("smear-form").addEventListener("submit", (event) => event.preventDefault());
  $("smear-choose").addEventListener("click", () => files.click());
  files.addEventListener("change", () => read(filesIn(files)));
  $("smear-examples").addEventListener("click", readExamples);
  decisions.addEventListener("change", () => filesIn(decisions).slice(0, 1).forEach(load));
  $("smear-stop").addEventListener("click", () => state.stop?.abort());
  takeDrops("smear", $("smear-drop"), read);
  onShow("smear", () => trouble(""));
}

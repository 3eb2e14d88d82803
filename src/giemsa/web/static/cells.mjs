// @ts-check
/** The part *Cells*: pictures in, verdicts out; all that is shown lives in this tab and nowhere else. */
/** @import { Cell, Item, JudgedCell, Limits, Model, VerdictName } from "./types.mjs" */
import { ApiError, call, get, linesOf } from "./api.mjs";
import { cellsReport } from "./cells-report.mjs";
import { csvOf } from "./csv.mjs";
import { $, element, h, redraw } from "./dom.mjs";
import { download, filesIn, takeDrops } from "./files.mjs";
import { say, trouble, troubleOf } from "./notices.mjs";
import { show } from "./pages.mjs";
import { figureOf } from "./pictures.mjs";
import { Table } from "./table.mjs";
import { count, megabytes, percent, probability, threshold, VERDICTS, wordOf } from "./words.mjs";

const BATCH = 32; // files of one request
const AT_ONCE = 3; // requests
const PART_BYTES = 300; // of the headers of a part, but for its name
/** @type {VerdictName[]} */
const FIRST = ["parasitized", "indeterminate", "not_a_cell", "unreadable", "uninfected"];
const LOST = "What is shown here is kept nowhere else, and not all of it was downloaded.";

/** @typedef {"look" | "sent" | "name" | "doubt"} Order */
/** @typedef {{ done: number, all: number, files: number }} Progress */

const state = {
  /** @type {Cell[]} */
  cells: [],
  /** @type {Model | null} */
  model: null,
  /** @type {Set<VerdictName>} */
  shown: new Set(),
  view: "grid",
  evidence: false,
  /** @type {Order} */
  order: "look",
  find: "",
  /** @type {AbortController | null} */
  stop: null,
  sent: 0,
  /** Whether there is anything that a person would miss. */
  unsaved: false,
};

/** The model that judged what is shown. */
export const judgedBy = () => state.model;

/* ---- sending ---- */

/** @type {Limits | null} */
let limits = null;

async function readLimits() {
  limits ??= /** @type {Limits} */ ((await get("/api/v1/model")).limits);
  return limits;
}

/**
 * Put files into requests that are neither too many nor too large; an archive is alone in its request.
 *
 * @param {Item[]} files
 * @param {Limits} most
 */
function packed(files, most) {
  /** @type {Item[][]} */
  const batches = [];
  /** @type {Item[]} */
  let batch = [];
  let bytes = 0;
  const room = most.body_bytes - 65_536; // for the headers of the parts
  const end = () => {
    if (batch.length) batches.push(batch);
    [batch, bytes] = [[], 0];
  };
  for (const item of files) {
    const alone = /\.zip$/i.test(item.name);
    if (batch.length >= BATCH || bytes + item.file.size > room || alone) end();
    batch.push(item);
    bytes += item.file.size + 4 * item.name.length + PART_BYTES;
    if (alone) end();
  }
  end();
  return batches;
}

/**
 * Judge files, and show their verdicts beside those that are there.
 *
 * @param {Item[]} files
 * @param {{ precious?: boolean }} [options] whether a person would miss the verdicts
 */
export async function judge(files, { precious = true } = {}) {
  if (!files.length) {
    const sentence = "There are no pictures in what was dropped: PNG, JPEG, TIFF, BMP, WebP or a zip of them.";
    say(sentence);
    trouble(sentence);
    return;
  }
  trouble("");
  const stop = new AbortController();
  state.stop = stop;
  const progress = { done: 0, all: files.length, files: files.length };
  showProgress(progress);
  try {
    await judgeAll(files, stop.signal, progress);
  } catch (error) {
    stop.abort();
    if (error instanceof TypeError) {
      trouble("The server cannot be reached; is it still running? What is shown was judged, and the rest was not.");
    } else if (!(error instanceof DOMException && error.name === "AbortError")) troubleOf(error);
  } finally {
    state.stop = null;
    state.unsaved ||= precious;
    $("progress").hidden = true;
    render();
    say(summary());
    document.body.dataset.judged = String(state.cells.length);
  }
}

/**
 * @param {Item[]} files
 * @param {AbortSignal} signal
 * @param {Progress} progress
 */
async function judgeAll(files, signal, progress) {
  const most = await readLimits();
  const fits = (/** @type {Item} */ item) => item.file.size < most.body_bytes - 131_072;
  for (const item of files.filter((one) => !fits(one))) {
    const size = `the file has ${megabytes(item.file.size)}; this server takes at most ${megabytes(most.body_bytes)}`;
    add([unreadable(item, size)], state.sent);
    state.sent += 1;
    progress.done += 1;
  }
  const batches = packed(files.filter(fits), most).map((batch) => {
    const place = state.sent;
    state.sent += batch.length;
    return { batch, place };
  });
  const work = async () => {
    for (let next = batches.shift(); next && !signal.aborted; next = batches.shift()) {
      await judgeBatch(next.batch, next.place, signal, progress);
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
}

/**
 * Send some files, and add their cells as they are judged.
 *
 * @param {Item[]} batch
 * @param {number} place
 * @param {AbortSignal} signal
 * @param {Progress} progress
 */
async function judgeBatch(batch, place, signal, progress) {
  const body = new FormData();
  for (const { file, name } of batch) body.append("files", file, name);
  const onBusy = (/** @type {string} */ why) => showProgress(progress, `Waiting: ${why}.`);
  const options = { method: "POST", headers: { Accept: "application/x-ndjson" }, body, signal, onBusy };
  let before = 0;
  try {
    const answer = await call("/api/v1/cells?include=digest&include=picture&include=evidence", options);
    for await (const said of linesOf(answer)) {
      if (said.problem) throw new Error(said.problem.detail);
      if (said.model) {
        state.model = said.model;
        progress.all += said.of - batch.length;
      } else {
        const item = (/** @type {number} */ index) => (batch.length === said.of ? batch[before + index] : batch[0]);
        const cells = /** @type {JudgedCell[]} */ (said.cells);
        add(
          cells.map((cell, index) => ofItem(cell, item(index))),
          place,
          before,
          said.of,
        );
        progress.done += said.judged - before;
        before = said.judged;
      }
      showProgress(progress);
    }
  } catch (error) {
    if (!(error instanceof ApiError && [400, 408, 413].includes(error.status))) throw error;
    add(
      batch.map((item) => unreadable(item, error.message)),
      place,
    );
    progress.done += batch.length;
    showProgress(progress);
  }
}

/** @typedef {JudgedCell & { file: Blob }} Sent */

/**
 * The cell under the name of its file, whose quotes browsers send as %22, with the file for a reviewer who keeps it.
 *
 * @param {JudgedCell} cell
 * @param {Item} item
 * @returns {Sent}
 */
function ofItem(cell, { file, name }) {
  const sent = name.replaceAll('"', "%22");
  const ours = cell.image === sent || cell.image.startsWith(`${sent}/`);
  return { ...cell, image: ours ? name + cell.image.slice(sent.length) : cell.image, file };
}

/**
 * @param {Item} item
 * @param {string} reason
 * @returns {Sent}
 */
function unreadable({ file, name }, reason) {
  const nothing = { p_parasitized: null, novelty: null, sha256: null, picture: null, evidence: null };
  return { image: name, verdict: "unreadable", reason, file, ...nothing };
}

/**
 * Add cells, the `before`th of `of` and those after it, of what was sent in one place.
 *
 * @param {Sent[]} cells
 * @param {number} place
 * @param {number} [before]
 * @param {number} [of]
 */
function add(cells, place, before = 0, of = cells.length) {
  cells.forEach((cell, index) => {
    const id = String(state.cells.length);
    state.cells.push({ ...cell, id, place: place + (before + index) / (of + 1) });
  });
  schedule();
}

/** @type {ReturnType<typeof setTimeout> | null} */
let scheduled = null;

/** Draw soon, once for all that comes until then. */
function schedule() {
  scheduled ??= setTimeout(render, state.cells.length > 400 ? 700 : 150);
}

/**
 * @param {Progress} progress
 * @param {string} [waiting]
 */
function showProgress({ done, all, files }, waiting) {
  const begun = done || all > 1;
  const bar = element("progress-bar", HTMLProgressElement);
  $("progress").hidden = false;
  bar.max = all;
  if (begun) bar.value = done;
  else bar.removeAttribute("value");
  const said = begun
    ? `${done.toLocaleString("en")} of ${count(all, "cell")} read`
    : `Sending ${count(files, "file")} …`;
  $("progress-text").textContent = waiting || said;
}

/* ---- what is shown ---- */

/** The strength of evidence that is shown in full: that of the strongest tenth of cells. */
function evidenceScale() {
  const maps = state.cells.map((cell) => cell.evidence).filter((map) => map !== null);
  const peaks = maps.map((map) => Math.max(...map.flat().map(Math.abs))).sort((a, b) => a - b);
  return peaks[Math.floor(0.9 * (peaks.length - 1))] || 1;
}

/** @param {Cell} cell */
const p = (cell) => cell.p_parasitized ?? -1;
/** @param {Cell} cell */
const rank = (cell) => FIRST.indexOf(cell.verdict);
/** @param {Cell} cell */
const doubt = (cell) =>
  cell.p_parasitized === null ? 2 : Math.abs(cell.p_parasitized - (state.model?.threshold ?? 0.5));

/** @type {Record<Order, (a: Cell, b: Cell) => number>} */
const BY = {
  look: (a, b) => rank(a) - rank(b) || p(b) - p(a) || a.place - b.place,
  sent: (a, b) => a.place - b.place,
  name: (a, b) => a.image.localeCompare(b.image, "en", { numeric: true }) || a.place - b.place,
  doubt: (a, b) => doubt(a) - doubt(b) || a.place - b.place,
};

/** The cells that are shown, in their order. */
export function ordered() {
  const find = state.find.toLowerCase();
  return state.cells
    .filter((cell) => !state.shown.size || state.shown.has(cell.verdict))
    .filter((cell) => !find || cell.image.toLowerCase().includes(find))
    .sort(BY[state.order]);
}

/** @param {VerdictName} name */
const numberOf = (name) => state.cells.filter((cell) => cell.verdict === name).length;
/** @param {VerdictName} name */
const isTold = (name) => numberOf(name) > 0 || name === "parasitized" || name === "uninfected";

function summary() {
  const each = FIRST.filter(isTold).map((name) => `${numberOf(name).toLocaleString("en")} ${VERDICTS[name].word}`);
  return `${count(state.cells.length, "cell")}: ${each.join(", ")}.`;
}

function render() {
  if (scheduled !== null) clearTimeout(scheduled);
  scheduled = null;
  const any = state.cells.length > 0;
  document.body.classList.toggle("has-cells", any);
  $("results").hidden = !any;
  if (!any) {
    $("grid").replaceChildren();
    made?.show([]);
    return;
  }
  renderTotals();
  const cells = ordered();
  const isGrid = state.view === "grid";
  $("none").hidden = cells.length > 0;
  $("grid").hidden = !isGrid;
  $("table").hidden = isGrid || !cells.length;
  $("order-field").hidden = !isGrid; // the table is sorted by its heads
  $("evidence-legend").hidden = !state.evidence;
  if (isGrid) renderGrid(cells);
  else table().show(cells);
}

function renderTotals() {
  const readable = state.cells.length - numberOf("unreadable");
  const shares = FIRST.filter(isTold).map((name) => {
    const share = name !== "unreadable" && readable ? percent(numberOf(name) / readable, 1) : "";
    return total(name, numberOf(name), wordOf(name), share);
  });
  for (const name of FIRST.filter(numberOf)) explain(name);
  redraw($("totals"), total("all", state.cells.length, h("span", { class: "word" }, "all"), ""), ...shares);
}

/**
 * Show what a verdict means that not every model gives.
 *
 * @param {VerdictName} name
 */
function explain(name) {
  const entry = document.querySelector(`dt[data-verdict="${name}"]`)?.parentElement;
  if (entry) entry.hidden = false;
}

/**
 * @param {VerdictName | "all"} name
 * @param {number} n
 * @param {Node} word
 * @param {string} share
 */
function total(name, n, word, share) {
  const attributes = {
    class: "total",
    type: "button",
    "data-total": name,
    "data-verdict": name === "all" ? null : name,
    "aria-pressed": String(name === "all" ? !state.shown.size : state.shown.has(name)),
    onclick: () => toggle(name),
  };
  return h("button", attributes, h("b", {}, n.toLocaleString("en")), h("span", { class: "share" }, share), word);
}

/** @param {VerdictName | "all"} name */
function toggle(name) {
  if (name === "all") state.shown.clear();
  else if (!state.shown.delete(name)) state.shown.add(name);
  render();
}

/** @type {{ scale: number, of: Map<string, HTMLLIElement> }} */
const cards = { scale: 0, of: new Map() };

/** @param {Cell[]} cells */
function renderGrid(cells) {
  const scale = state.evidence ? evidenceScale() : 0;
  if (cards.scale !== scale) {
    cards.of.clear();
    cards.scale = scale;
  }
  const items = cells.map((cell) => {
    const made = cards.of.get(cell.id) ?? card(cell, scale);
    cards.of.set(cell.id, made);
    return made;
  });
  redraw($("grid"), ...items);
}

/**
 * A name that fits a card: the middle is left out, since names differ at both ends, and so is the kind of file.
 *
 * @param {string} name
 */
function shortName(name) {
  const last = name.slice(name.lastIndexOf("/") + 1).replace(/\.\w{3,4}$/, "") || name;
  return last.length > 30 ? `${last.slice(0, 11)}…${last.slice(-18)}` : last;
}

/**
 * @param {Cell} cell
 * @param {number} scale
 */
function card(cell, scale) {
  const words = h(
    "span",
    { class: "words", "data-verdict": cell.verdict },
    wordOf(cell.verdict),
    cell.p_parasitized === null ? null : h("span", { class: "p" }, "p parasitized ", probability(cell.p_parasitized)),
    cell.reason ? h("span", { class: "why" }, cell.reason) : null,
    h("span", { class: "name" }, shortName(cell.image)),
  );
  const attributes = { type: "button", "data-cell": cell.id, title: cell.image, onclick: () => look(cell) };
  return h("li", { class: "cell" }, h("button", attributes, figureOf(cell, scale), words));
}

/** @type {Table<Cell> | null} */
let made = null;

function table() {
  made ??= new Table($("table"), "Cells", COLUMNS, look);
  return made;
}

/** @param {Cell} cell */
function openButton(cell) {
  const open = (/** @type {Event} */ event) => {
    event.stopPropagation(); // the row would open it once more
    look(cell);
  };
  return h("button", { type: "button", class: "link", onclick: open }, cell.image);
}

/** @type {import("./table.mjs").Column<Cell>[]} */
const COLUMNS = [
  { name: "Picture", show: (cell) => (cell.picture ? h("img", { src: cell.picture, class: "mini", alt: "" }) : "") },
  { name: "Name", show: openButton, by: (cell) => cell.image },
  { name: "Verdict", show: (cell) => wordOf(cell.verdict), by: (cell) => rank(cell) },
  {
    name: "p parasitized",
    show: (cell) => probability(cell.p_parasitized),
    by: (cell) => cell.p_parasitized,
    numeric: true,
  },
  {
    name: "Novelty",
    show: (cell) => probability(cell.novelty),
    by: (cell) => cell.novelty,
    numeric: true,
    needed: (cells) => cells.some((cell) => cell.novelty !== null),
  },
  {
    name: "Reason",
    show: (cell) => cell.reason,
    by: (cell) => cell.reason || null,
    needed: (cells) => cells.some((cell) => cell.reason),
  },
];

/* ---- one cell, large ---- */

/** @param {Cell} cell */
function look(cell) {
  const dialog = element("look", HTMLDialogElement);
  const cells = ordered();
  const at = cells.indexOf(cell);
  const move = (/** @type {number} */ step) => {
    const next = cells[at + step];
    if (next) look(next);
  };
  const shown = () => figureOf(cell, state.evidence ? evidenceScale() : 0);
  const picture = h("div", {}, shown());
  const close = h("button", { type: "button", class: "primary", onclick: () => dialog.close() }, "Close");
  const box = h("input", { type: "checkbox", role: "switch" });
  box.checked = state.evidence;
  box.addEventListener("change", () => {
    showEvidence(box.checked);
    picture.replaceChildren(shown());
  });
  const evidence = h(
    "label",
    { class: "switch" },
    box,
    h("span", { class: "knob", "aria-hidden": "true" }),
    "Evidence",
  );
  const words = h(
    "div",
    {},
    h("h2", { id: "look-name" }, cell.image),
    wordOf(cell.verdict),
    factsOf(cell),
    cell.evidence ? evidence : null,
    h("p", { class: "quiet" }, `${at + 1} of ${cells.length.toLocaleString("en")}; arrow keys move.`),
    h(
      "div",
      { class: "look-buttons" },
      h("button", { type: "button", disabled: at <= 0, onclick: () => move(-1) }, "Previous"),
      h("button", { type: "button", disabled: at + 1 >= cells.length, onclick: () => move(1) }, "Next"),
      close,
    ),
  );
  dialog.replaceChildren(h("div", { class: "look" }, picture, words));
  dialog.onkeydown = (event) => {
    if (event.key === "ArrowRight") move(1);
    if (event.key === "ArrowLeft") move(-1);
  };
  dialog.onclick = (event) => {
    if (event.target === dialog) dialog.close();
  };
  if (!dialog.open) dialog.showModal();
  close.focus({ preventScroll: true });
  dialog.scrollTop = 0; // at the picture, however small the window is
}

/** @param {Cell} cell */
function factsOf(cell) {
  const from = state.model ? ` (parasitized from ${threshold(state.model.threshold)})` : "";
  /** @type {[string, string | null][]} */
  const facts = [
    ["p parasitized", cell.p_parasitized === null ? null : `${probability(cell.p_parasitized)}${from}`],
    ["novelty", cell.novelty === null ? null : cell.novelty.toFixed(3)],
    ["reason", cell.reason],
    ["SHA-256", cell.sha256],
  ];
  const told = facts.filter(([, value]) => value);
  return h(
    "dl",
    { class: "facts" },
    told.map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]),
  );
}

/** @param {boolean} on */
function showEvidence(on) {
  state.evidence = on;
  element("evidence", HTMLInputElement).checked = on;
  render();
}

/* ---- files to keep ---- */

function saveCsv() {
  download("verdicts.csv", "text/csv", csvOf(state.cells.slice().sort(BY.sent)));
  state.unsaved = false;
}

async function saveReport() {
  const cells = ordered();
  const scale = state.evidence ? evidenceScale() : 0;
  const what = { cells, of: state.cells.length, summary: summary(), model: state.model, scale };
  try {
    download("verdicts.html", "text/html", await cellsReport(what));
    if (cells.length === state.cells.length) state.unsaved = false;
  } catch (error) {
    troubleOf(error);
  }
}

function clear() {
  if (state.unsaved && !confirm(`${LOST} Clear it?`)) return;
  state.stop?.abort();
  Object.assign(state, { cells: [], sent: 0, unsaved: false });
  state.shown.clear();
  cards.of.clear();
  delete document.body.dataset.judged;
  render();
  $("choose").focus();
}

/* ---- what people do ---- */

async function judgeExamples() {
  try {
    const file = await (await call("/examples.zip")).blob();
    await judge([{ file, name: "examples.zip" }], { precious: false });
  } catch (error) {
    troubleOf(error);
  }
}

/** @param {string} view */
function choose(view) {
  state.view = view;
  for (const one of ["grid", "table"]) $(`view-${one}`).setAttribute("aria-pressed", String(one === view));
  render();
}

export function startCells() {
  const files = element("files", HTMLInputElement);
  const find = element("find", HTMLInputElement);
  const order = element("order", HTMLSelectElement);
  const evidence = element("evidence", HTMLInputElement);
  const on = (/** @type {string} */ id, /** @type {() => unknown} */ act) => $(id).addEventListener("click", act);
  on("choose", () => files.click());
  files.addEventListener("change", () => judge(filesIn(files)));
  on("examples", judgeExamples);
  takeDrops("cells", $("drop"), judge);
  on("stop", () => state.stop?.abort());
  evidence.addEventListener("change", () => showEvidence(evidence.checked));
  order.addEventListener("change", () => {
    state.order = /** @type {Order} */ (order.value);
    render();
  });
  find.addEventListener("input", () => {
    state.find = find.value;
    render();
  });
  on("show-all", () => {
    state.shown.clear();
    state.find = find.value = "";
    render();
  });
  on("view-grid", () => choose("grid"));
  on("view-table", () => choose("table"));
  on("to-review", () => show("/review", true));
  on("save-csv", saveCsv);
  on("save-report", saveReport);
  on("clear", clear);
  addEventListener("beforeunload", (event) => {
    if (state.unsaved) event.preventDefault();
  });
}

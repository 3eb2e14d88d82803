// @ts-check
/** The part *Review*: a person's answers, one key each, appended to the server's database as they are given. */
/** @import { Agreement, Answer, Cell, KeptPicture, Review, VerdictName } from "./types.mjs" */
import { ApiError, call, get, post } from "./api.mjs";
import { judge, judgedBy, ordered } from "./cells.mjs";
import { $, h, redraw } from "./dom.mjs";
import { say, trouble, troubleOf } from "./notices.mjs";
import { isShown, onShow, show } from "./pages.mjs";
import { figureOf } from "./pictures.mjs";
import { count, probability, VERDICTS, wordOf } from "./words.mjs";

/** @typedef {{ word: Answer, key: string, text: string, looks: VerdictName }} Choice */
/** @type {Choice[]} */
const CHOICES = [
  { word: "parasitized", key: "p", text: "Parasitized", looks: "parasitized" },
  { word: "uninfected", key: "u", text: "Uninfected", looks: "uninfected" },
  { word: "unsure", key: "d", text: "In doubt", looks: "indeterminate" },
  { word: "not_a_cell", key: "n", text: "Not a cell", looks: "not_a_cell" },
];
const LISTED = 50; // kept pictures that are shown at first
const TAKEN = 500; // kept pictures that are reviewed at a time
const SENT_AT_ONCE = 32; // files
const NAME = "giemsa-reviewer";

/** @typedef {Cell & { sha256: string }} Reviewed */

const state = {
  reviewer: "",
  blind: true,
  /** @type {Reviewed[]} */
  queue: [],
  at: 0,
  /** @type {Map<string, Answer>} */
  answers: new Map(),
  /** @type {{ cell: Reviewed, before: Answer | null }[]} */
  undo: [],
  /** @type {Review[]} */
  sent: [],
  delivered: 0,
  /** @type {KeptPicture[]} */
  kept: [],
  listed: LISTED,
  keptOpen: false,
  /** @type {Agreement[]} */
  agreement: [],
};

/** @param {string} name */
function remember(name) {
  try {
    localStorage.setItem(NAME, name);
  } catch {
    return; // it is asked for again
  }
}

function recall() {
  try {
    return localStorage.getItem(NAME) ?? "";
  } catch {
    return "";
  }
}

async function open() {
  state.reviewer = state.reviewer || recall();
  const judged = ordered().filter((cell) => cell.sha256 !== null && cell.verdict !== "unreadable");
  state.queue = /** @type {Reviewed[]} */ (judged);
  await refresh();
  start();
  document.body.dataset.review = "ready";
}

async function refresh() {
  try {
    [state.kept, state.agreement] = await Promise.all([get("/api/v1/pictures"), get("/api/v1/agreement")]);
    await readMine();
  } catch (error) {
    troubleOf(error);
  }
}

/** Read this person's answers; the server may not know yet of those that are on the way, or given meanwhile. */
async function readMine() {
  const { reviewer, delivered } = state;
  /** @type {Review[]} */
  const kept = reviewer ? await get(`/api/v1/reviews?reviewer=${encodeURIComponent(reviewer)}`) : [];
  if (reviewer !== state.reviewer) return;
  state.answers = new Map(kept.map((one) => [one.image_sha256, one.answer]));
  state.sent
    .slice(delivered)
    .filter((one) => one.reviewer === reviewer)
    .forEach(mark);
}

/** @param {Review} review */
function mark({ image_sha256: sha256, answer }) {
  if (answer === "withdrawn") state.answers.delete(sha256);
  else state.answers.set(sha256, answer);
}

const unsaved = () => state.sent.length - state.delivered;

/** @param {Reviewed} cell */
const answered = (cell) => state.answers.get(cell.sha256);

function newKey() {
  const bytes = [...crypto.getRandomValues(new Uint8Array(16))];
  return bytes.map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/* ---- answers ---- */

/** Answers are sent one after another: of two to a cell the later counts. */
let sending = Promise.resolve();

/**
 * Show the answer at once, and send it until it is acknowledged.
 *
 * @param {Reviewed} cell
 * @param {Answer} answer
 */
function send(cell, answer) {
  /** @type {Review} */
  const review = {
    key: newKey(),
    reviewer: state.reviewer,
    image: cell.image,
    image_sha256: cell.sha256,
    model_sha256: judgedBy()?.sha256 ?? "",
    verdict: cell.verdict,
    p_parasitized: cell.p_parasitized,
    answer,
  };
  mark(review);
  state.sent.push(review);
  renderSaved();
  sending = sending.then(() => deliver(review));
}

/**
 * Send until it is acknowledged; what is not yet, is said.
 *
 * @param {Review} review
 */
async function deliver(review) {
  for (let attempt = 0; ; attempt += 1) {
    try {
      await post("/api/v1/reviews", review);
      trouble("");
      break;
    } catch (error) {
      if (error instanceof ApiError && error.status < 500) {
        trouble(`This answer was not kept: ${error.message}.`);
        break;
      }
      const why = error instanceof ApiError ? "cannot keep answers now" : "does not answer";
      trouble(`The server ${why}; yours wait in this tab and are sent when it can.`);
      await new Promise((done) => setTimeout(done, Math.min(10_000, 500 * 2 ** attempt)));
    }
  }
  state.delivered += 1;
  renderSaved();
}

/** @param {Answer} word */
function answer(word) {
  const cell = state.queue[state.at];
  if (!cell) return;
  if (!state.reviewer) {
    trouble("Say who you are first: answers are kept with a name.");
    $("reviewer").focus();
    return;
  }
  state.undo.push({ cell, before: answered(cell) ?? null });
  send(cell, word);
  say(`Cell ${state.at + 1}: ${word.replaceAll("_", " ")}`);
  next();
  render();
}

function undo() {
  const last = state.undo.pop();
  if (!last) return;
  send(last.cell, last.before ?? "withdrawn");
  state.at = Math.max(0, state.queue.indexOf(last.cell));
  say(`taken back: ${last.cell.image}`);
  render();
}

function next() {
  const rest = state.queue.findIndex((cell, index) => index > state.at && !answered(cell));
  const any = state.queue.findIndex((cell) => !answered(cell));
  state.at = rest >= 0 ? rest : any >= 0 ? any : state.queue.length;
}

/** Show the first cell without an answer. */
function start() {
  state.at = -1;
  next();
  render();
}

/** @param {number} by */
function step(by) {
  state.at = Math.min(Math.max(0, state.at + by), state.queue.length);
  render();
}

/* ---- what is shown ---- */

/** Draw what a person's answers change; the line with the name stays as it is, and what has the focus keeps it. */
function render() {
  const root = $("review-root");
  if (!root.firstChild) root.append(settings(), h("div", { id: "review-body", tabindex: -1 }));
  const kept = document.getElementById("kept");
  if (kept instanceof HTMLDetailsElement) state.keptOpen = kept.open;
  redraw($("review-body"), state.queue.length ? reviewing() : nothing(), keeping(), agreement());
  renderSaved();
}

function settings() {
  const name = h("input", {
    id: "reviewer",
    type: "text",
    maxlength: 100,
    value: state.reviewer,
    autocomplete: "name",
  });
  name.addEventListener("change", () => rename(name.value.trim()));
  name.addEventListener("keydown", (event) => {
    if (event.key === "Enter") $("review-body").focus(); // so that the next key is an answer
  });
  const blind = h("input", { type: "checkbox", role: "switch" });
  blind.checked = state.blind;
  blind.addEventListener("change", () => {
    state.blind = blind.checked;
    render();
  });
  const knob = h("span", { class: "knob", "aria-hidden": "true" });
  return h(
    "div",
    { class: "row" },
    h("label", { class: "field" }, "Your name ", name),
    h("label", { class: "switch" }, blind, knob, "Hide name and verdict until I answer"),
    h("span", { id: "saved", class: "quiet", role: "status" }),
  );
}

/**
 * Go on as somebody: with the answers that they gave before.
 *
 * @param {string} name
 */
async function rename(name) {
  state.reviewer = name;
  remember(name);
  state.undo = [];
  state.answers = new Map();
  document.body.dataset.review = "reading";
  if (pointerIsDown) {
    await released(); // the click that ended the name finds its button, and what it does holds
    render();
  } else start();
  try {
    await readMine();
    trouble("");
  } catch (error) {
    troubleOf(error);
  }
  const shown = state.queue[state.at];
  if (shown && !answered(shown)) render();
  else start();
  document.body.dataset.review = "ready";
}

let pointerIsDown = false;

/** Wait until the click that is under way is over. */
function released() {
  return new Promise((done) => addEventListener("pointerup", () => setTimeout(done, 0), { once: true }));
}

function nothing() {
  const link = h("a", { href: "/", "data-page": "cells" }, "Drop some on the page Cells");
  const rest = state.kept.length ? ", or take those that others have kept here." : ".";
  return h("div", { class: "card-box" }, h("p", {}, "There are no cells to review yet."), h("p", {}, link, rest));
}

function reviewing() {
  const cell = state.queue[state.at];
  const done = state.queue.filter(answered).length;
  const bar = h("progress", { max: state.queue.length, value: done });
  bar.value = done;
  const said = `${done.toLocaleString("en")} of ${count(state.queue.length, "cell")} answered by you `;
  const progress = h("p", {}, h("label", {}, said, bar));
  const back = button("Undo", "z", undo, !state.undo.length);
  if (!cell) {
    const buttons = h(
      "p",
      {},
      back,
      " ",
      button("Go back", "←", () => step(-1)),
    );
    return h("div", { class: "card-box" }, progress, h("p", {}, "That was the last one. Thank you."), buttons);
  }
  const mine = answered(cell);
  const open = !state.blind || mine !== undefined;
  const verdict = open
    ? h("p", {}, "Giemsa says ", wordOf(cell.verdict), ` ${saidOf(cell)}`)
    : h("p", { class: "quiet" }, "Its name and the verdict are shown when you have answered.");
  const words = h(
    "div",
    {},
    h("h2", { class: "name" }, open ? cell.image : `Cell ${state.at + 1}`),
    h(
      "div",
      { class: "answers", role: "group", "aria-label": "Your answer" },
      CHOICES.map((one) => choiceOf(one, mine)),
    ),
    h(
      "div",
      { class: "look-buttons" },
      back,
      button("Back", "←", () => step(-1), state.at === 0),
      button("Skip", "→", () => step(1)),
    ),
    verdict,
    progress,
  );
  return h("div", { class: "review" }, h("div", {}, figureOf(cell, 0)), words);
}

/** @param {Cell} cell */
function saidOf(cell) {
  const p = cell.p_parasitized === null ? "" : `p parasitized ${probability(cell.p_parasitized)}`;
  return [p, cell.reason].filter(Boolean).join(", ");
}

/**
 * @param {Choice} choice
 * @param {Answer | undefined} mine
 */
function choiceOf({ word, key, text, looks }, mine) {
  const attributes = {
    type: "button",
    "data-answer": word,
    "data-verdict": looks,
    "aria-pressed": String(mine === word),
    onclick: () => answer(word),
  };
  const sign = h("span", { class: "sign", "aria-hidden": "true" }, `${VERDICTS[looks].sign} `);
  return h("button", attributes, h("span", {}, sign, text), h("kbd", {}, key.toUpperCase()));
}

/**
 * @param {string} text
 * @param {string} key
 * @param {() => void} act
 * @param {boolean} [disabled]
 */
function button(text, key, act, disabled = false) {
  const hint = h("kbd", { "aria-hidden": "true" }, key.toUpperCase());
  return h("button", { type: "button", disabled, onclick: act }, `${text} `, hint);
}

/* ---- kept pictures ---- */

function keeping() {
  const files = [...new Set(state.queue.map((cell) => cell.file))];
  const keep = { type: "button", id: "keep", disabled: !files.length, onclick: () => keepAll(files) };
  const take = { type: "button", id: "take", disabled: !state.kept.length, onclick: takeKept };
  const about =
    "Answers are kept with your name, the picture's digest and the model's. The pictures themselves are not, unless " +
    "you say so here; then whoever reaches this server can see them, and remove them. Answers stay when a picture " +
    "is removed.";
  return h(
    "div",
    { class: "card-box" },
    h("h2", {}, "Pictures for other reviewers"),
    h("p", { class: "quiet" }, about),
    h(
      "div",
      { class: "row" },
      h("button", keep, "Keep these pictures here for others"),
      h("button", take, `Review kept pictures (${state.kept.length.toLocaleString("en")})`),
    ),
    state.kept.length ? keptList() : null,
  );
}

/** What is kept, so that each can be removed again; a long list is shown in pieces. */
function keptList() {
  const shown = state.kept.slice(0, state.listed);
  const rows = shown.map(({ sha256, image, people }) => {
    const remove = { type: "button", "aria-label": `Remove ${image}`, onclick: () => removeKept([sha256]) };
    const said = h("small", {}, ` ${count(people, "person", "people")} answered`);
    return h("li", {}, h("span", {}, image, said), h("button", remove, "Remove"));
  });
  const more = { type: "button", onclick: () => showMore() };
  return h(
    "details",
    { id: "kept", open: state.keptOpen },
    h("summary", {}, "Remove kept pictures"),
    h("ul", { class: "kept" }, rows),
    h(
      "div",
      { class: "row" },
      shown.length < state.kept.length
        ? h("button", more, `Show more of ${state.kept.length.toLocaleString("en")}`)
        : null,
      h("button", { type: "button", id: "remove-all", onclick: removeAll }, "Remove all"),
    ),
  );
}

function showMore() {
  state.listed += LISTED;
  render();
}

function removeAll() {
  const all = `${count(state.kept.length, "kept picture")} from this server, for everybody`;
  if (confirm(`Remove ${all}? Answers stay.`)) removeKept(state.kept.map(({ sha256 }) => sha256));
}

/** @param {string[]} digests */
async function removeKept(digests) {
  let removed = 0;
  try {
    for (const sha256 of digests) removed += Number(await unlessGone(() => removeOne(sha256)));
    trouble("");
  } catch (error) {
    trouble(`${messageOf(error)}; ${count(removed, "picture")} removed.`);
  }
  say(`${count(removed, "picture")} removed.`);
  try {
    state.kept = await get("/api/v1/pictures");
  } catch (error) {
    troubleOf(error);
  }
  render();
  (document.querySelector(/** @type {"summary"} */ ("#kept summary")) ?? $("keep")).focus();
}

/** @param {string} sha256 */
async function removeOne(sha256) {
  await call(`/api/v1/pictures/${sha256}`, { method: "DELETE" });
  return true;
}

/** @param {unknown} error */
const messageOf = (error) => (error instanceof Error ? error.message : String(error));

/**
 * What comes of a call on a kept picture; null where somebody has removed it meanwhile.
 *
 * @template T
 * @param {() => Promise<T>} act
 * @returns {Promise<T | null>}
 */
async function unlessGone(act) {
  try {
    return await act();
  } catch (error) {
    if (error instanceof ApiError && error.status === 404) return null;
    throw error;
  }
}

/** @param {Blob[]} files */
async function keepAll(files) {
  let kept = 0;
  try {
    for (let first = 0; first < files.length; first += SENT_AT_ONCE) {
      const body = new FormData();
      for (const file of files.slice(first, first + SENT_AT_ONCE)) {
        body.append("files", file, file instanceof File ? file.name : "picture");
      }
      const onBusy = (/** @type {string} */ why) => say(`Waiting: ${why}.`);
      kept += (await (await call("/api/v1/pictures", { method: "POST", body, onBusy })).json()).length;
    }
    state.kept = await get("/api/v1/pictures");
    trouble("");
    say(`${count(kept, "picture")} kept.`);
  } catch (error) {
    trouble(`${messageOf(error)}; ${count(kept, "picture")} kept.`);
  }
  render();
}

async function takeKept() {
  try {
    const files = [];
    for (const { sha256, image } of state.kept.slice(0, TAKEN)) {
      const file = await unlessGone(async () => (await call(`/api/v1/pictures/${sha256}`)).blob());
      if (file) files.push({ file, name: image });
    }
    await judge(files, { precious: false }); // the server has them
    show("/review", false);
  } catch (error) {
    troubleOf(error);
  }
}

/* ---- agreement ---- */

function agreement() {
  const rows = state.agreement.filter((one) => one.n);
  const again = async () => {
    await refresh();
    render();
  };
  return h(
    "div",
    { class: "card-box" },
    h("h2", {}, "Agreement"),
    rows.length ? agreementTable(rows) : h("p", { class: "quiet" }, "It is shown here when somebody has answered."),
    h("button", { type: "button", onclick: again }, "Compute again"),
  );
}

/** @param {Agreement[]} rows */
function agreementTable(rows) {
  const shown = (/** @type {number | null} */ value) => (value === null ? "n/a" : value.toFixed(3));
  const caption =
    "Cohen's kappa: 1 is perfect, 0 what chance gives. 95 % intervals by bootstrap over patients where names tell " +
    "them, else over pictures.";
  const head = ["readers", "pictures", "agree", "kappa", "interval"].map((name) => h("th", { scope: "col" }, name));
  const body = rows.map((one) => {
    const agreed = (one.table[0][0] + one.table[1][1]) / one.n;
    const interval = `${shown(one.low)} to ${shown(one.high)} (${one.units} ${one.kind})`;
    const cells = [
      one.n.toLocaleString("en"),
      `${(100 * agreed).toFixed(1)} %`,
      shown(one.kappa),
      one.kappa === null ? one.reason : interval,
    ];
    const name = h("th", { scope: "row" }, `${one.first} and ${one.second}`);
    return h(
      "tr",
      {},
      name,
      cells.map((cell) => h("td", {}, cell)),
    );
  });
  const table = h("table", { class: "plain-table" }, h("caption", {}, caption));
  table.append(h("thead", {}, h("tr", {}, head)), h("tbody", {}, body));
  return h("div", { class: "table-scroll", tabindex: 0, role: "region", "aria-label": "Agreement" }, table);
}

function renderSaved() {
  const waiting = unsaved();
  const all = state.undo.length ? "All answers are kept." : "";
  const said = waiting ? `${count(waiting, "answer")} on the way …` : all;
  const saved = document.getElementById("saved");
  if (saved) saved.textContent = said;
  document.body.dataset.unsaved = String(waiting);
}

/* ---- what people do ---- */

/** @param {KeyboardEvent} event */
function pressKey(event) {
  const target = event.target instanceof Element ? event.target : null;
  if (!isShown("review") || event.ctrlKey || event.metaKey || event.altKey) return;
  if (target?.closest("input[type=text], input[type=password], select, dialog")) return;
  const key = event.key.toLowerCase();
  const chosen = CHOICES.find((choice) => choice.key === key);
  if (chosen) answer(chosen.word);
  else if (key === "z" || key === "backspace") undo();
  else if (key === "arrowleft") step(-1);
  else if (key === "arrowright") step(1);
  else return;
  event.preventDefault();
}

export function startReview() {
  onShow("review", open);
  addEventListener("keydown", pressKey);
  addEventListener("pointerdown", () => {
    pointerIsDown = true;
  });
  for (const ended of ["pointerup", "pointercancel"]) {
    addEventListener(ended, () => {
      pointerIsDown = false;
    });
  }
  addEventListener("beforeunload", (event) => {
    if (unsaved()) event.preventDefault();
  });
}

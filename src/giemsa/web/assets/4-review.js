/* The review: a person's answers, one key each, appended to the server's database as they are given. */
"use strict";

(() => {
  const { $, h, redraw, wordOf, probability, count, call, get, post, trouble, say, page, figureOf, VERDICTS } = window.giemsa;
  const ANSWERS = [["parasitized", "p", "Parasitized"], ["uninfected", "u", "Uninfected"], ["unsure", "d", "In doubt"], ["not_a_cell", "n", "Not a cell"]];
  const LISTED = 50; // kept pictures that are shown at first
  const state = { reviewer: "", blind: true, queue: [], at: 0, answers: new Map(), undo: [], sent: [], delivered: 0, kept: [], listed: LISTED, keptOpen: false, agreement: [] };
  window.giemsa.review = state;
  const remember = (name, value) => { try { localStorage.setItem(name, value); } catch { /* then not */ } };
  const recall = (name) => { try { return localStorage.getItem(name); } catch { return null; } };

  page("review", async () => {
    state.reviewer = state.reviewer || recall("giemsa-reviewer") || "";
    state.queue = window.giemsa.cells.ordered().filter((cell) => cell.sha256 && cell.verdict !== "unreadable");
    await refresh();
    start();
    document.body.dataset.review = "ready";
  });

  async function refresh() {
    try {
      [state.kept, state.agreement] = await Promise.all([get("/api/v1/pictures"), get("/api/v1/agreement")]);
      await readMine();
    } catch (error) { trouble(`${error.message}.`); }
  }

  /** Read this person's answers; the server may not know yet of those that are on the way, or given meanwhile. */
  async function readMine() {
    const { reviewer, delivered } = state;
    const kept = reviewer ? await get(`/api/v1/reviews?reviewer=${encodeURIComponent(reviewer)}`) : [];
    if (reviewer !== state.reviewer) return;
    state.answers = new Map(kept.map((one) => [one.image_sha256, one.answer]));
    state.sent.slice(delivered).filter((one) => one.reviewer === reviewer).forEach(mark);
  }

  function mark({ image_sha256: sha256, answer }) { if (answer === "withdrawn") state.answers.delete(sha256); else state.answers.set(sha256, answer); }

  const unsaved = () => state.sent.length - state.delivered;
  const answered = (cell) => state.answers.get(cell.sha256);
  const newKey = () => [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");

  /** Show the answer at once, and send it until it is acknowledged, one after another: of two to a cell the later counts. */
  let sending = Promise.resolve();
  function send(cell, answer) {
    const review = { key: newKey(), reviewer: state.reviewer, image: cell.image, image_sha256: cell.sha256, model_sha256: window.giemsa.cells.model.sha256,
      verdict: cell.verdict, p_parasitized: cell.p_parasitized, answer };
    mark(review);
    state.sent.push(review);
    renderSaved();
    sending = sending.then(() => deliver(review));
  }

  /** What is not acknowledged yet, is said. */
  async function deliver(review) {
    for (let attempt = 0; ; attempt += 1) {
      try { await post("/api/v1/reviews", review); trouble(""); break; } catch (error) {
        if (error.status && error.status < 500) { trouble(`This answer was not kept: ${error.message}.`); break; }
        trouble("The server does not answer; your answers wait in this tab and are sent when it does.");
        await new Promise((done) => setTimeout(done, Math.min(10_000, 500 * 2 ** attempt)));
      }
    }
    state.delivered += 1;
    renderSaved();
  }

  function answer(word) {
    const cell = state.queue[state.at];
    if (!cell) return;
    if (!state.reviewer) { trouble("Say who you are first: answers are kept with a name."); $("reviewer").focus(); return; }
    state.undo.push({ cell, before: answered(cell) || null });
    send(cell, word);
    say(`Cell ${state.at + 1}: ${word.replaceAll("_", " ")}`);
    next();
    render();
  }

  function undo() {
    const last = state.undo.pop();
    if (!last) return;
    send(last.cell, last.before || "withdrawn");
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
  function start() { state.at = -1; next(); render(); }

  function step(by) { state.at = Math.min(Math.max(0, state.at + by), state.queue.length); render(); }

  /* ---- what is shown ---- */

  /** Draw what a person's answers change; the line with the name stays as it is, and what has the focus keeps it. */
  function render() {
    const root = $("review-root");
    if (!root.firstChild) root.append(settings(), h("div", { id: "review-body", tabindex: "-1" }));
    const body = $("review-body");
    if ($("kept")) state.keptOpen = $("kept").open;
    redraw(body, state.queue.length ? reviewing() : nothing(), keeping(), agreement());
    renderSaved();
  }

  function settings() {
    const name = h("input", { id: "reviewer", type: "text", maxlength: 100, value: state.reviewer, autocomplete: "name" });
    name.addEventListener("change", async () => {
      state.reviewer = name.value.trim();
      remember("giemsa-reviewer", state.reviewer);
      state.undo = [];
      state.answers = new Map();
      document.body.dataset.review = "reading";
      start();
      try { await readMine(); trouble(""); } catch (error) { trouble(`${error.message}.`); }
      const shown = state.queue[state.at];
      if (shown && !answered(shown)) render(); else start();
      document.body.dataset.review = "ready";
    });
    const blind = h("input", { type: "checkbox", role: "switch", onchange: () => { state.blind = blind.checked; render(); } });
    blind.checked = state.blind;
    return h("div", { class: "row" }, h("label", { class: "field" }, "Your name ", name),
      h("label", { class: "switch" }, blind, h("span", { class: "knob", "aria-hidden": "true" }), "Hide name and verdict until I answer"),
      h("span", { id: "saved", class: "quiet", role: "status" }));
  }

  function nothing() {
    return h("div", { class: "card-box" }, h("p", {}, "There are no cells to review yet."),
      h("p", {}, h("a", { href: "/", "data-page": "cells" }, "Drop some on the page Cells"), state.kept.length ? ", or take those that others have kept here." : "."));
  }

  function reviewing() {
    const cell = state.queue[state.at];
    const done = state.queue.filter(answered).length;
    const progress = h("p", {}, h("label", {}, `${done.toLocaleString("en")} of ${count(state.queue.length, "cell")} answered by you `, h("progress", { max: state.queue.length, value: done })));
    if (!cell) return h("div", { class: "card-box" }, progress, h("p", {}, "That was the last one. Thank you."), h("p", {}, button("Undo", "z", undo, !state.undo.length), " ", button("Go back", "←", () => step(-1))));
    const mine = answered(cell);
    const verdict = !state.blind || mine ? h("p", {}, "Giemsa says ", wordOf(cell.verdict), ` p parasitized ${probability(cell.p_parasitized)}`)
      : h("p", { class: "quiet" }, "Its name and the verdict are shown when you have answered.");
    return h("div", { class: "review" }, h("div", {}, figureOf(cell, 0)),
      h("div", {}, progress, h("h2", { class: "name" }, state.blind && !mine ? `Cell ${state.at + 1}` : cell.image), verdict,
        h("div", { class: "answers", role: "group", "aria-label": "Your answer" }, ANSWERS.map(([word, key, text]) =>
          h("button", { type: "button", "data-answer": word, "data-verdict": VERDICTS[word] ? word : "indeterminate", "aria-pressed": String(mine === word), onclick: () => answer(word) },
            h("span", {}, h("span", { class: "sign", "aria-hidden": "true" }, `${(VERDICTS[word] || VERDICTS.indeterminate).sign} `), text), h("kbd", {}, key.toUpperCase())))),
        h("div", { class: "look-buttons" }, button("Undo", "Z", undo, !state.undo.length), button("Back", "←", () => step(-1), state.at === 0), button("Skip", "→", () => step(1)))));
  }

  const button = (text, key, act, disabled = false) => h("button", { type: "button", disabled, onclick: act }, `${text} `, h("kbd", { "aria-hidden": "true" }, key.toUpperCase()));

  function keeping() {
    const files = [...new Set(state.queue.map((cell) => cell.file).filter(Boolean))];
    const keep = h("button", { type: "button", id: "keep", disabled: !files.length, onclick: () => keepAll(files) }, "Keep these pictures here for others");
    const take = h("button", { type: "button", id: "take", disabled: !state.kept.length, onclick: takeKept }, `Review kept pictures (${state.kept.length.toLocaleString("en")})`);
    return h("div", { class: "card-box" }, h("h2", {}, "Together"),
      h("p", { class: "quiet" }, "Answers are kept with your name, the picture's digest and the model's. The pictures themselves are not, unless you say so here; then whoever reaches this server can see them, and remove them. Answers stay when a picture goes."),
      h("div", { class: "row" }, keep, take), state.kept.length ? keptList() : null);
  }

  /** List what is kept, so that each can be removed again; a long list is shown in pieces. */
  function keptList() {
    const shown = state.kept.slice(0, state.listed);
    return h("details", { id: "kept", open: state.keptOpen }, h("summary", {}, "Remove kept pictures"),
      h("ul", { class: "kept" }, shown.map(({ sha256, image, people }) => h("li", {}, h("span", {}, image, h("small", {}, ` ${count(people, "person", "people")} answered`)),
        h("button", { type: "button", "aria-label": `Remove ${image}`, onclick: () => removeKept([sha256]) }, "Remove")))),
      h("div", { class: "row" },
        shown.length < state.kept.length ? h("button", { type: "button", onclick: () => { state.listed += LISTED; render(); } }, `Show more of ${state.kept.length.toLocaleString("en")}`) : null,
        h("button", { type: "button", id: "remove-all", onclick: () => {
          if (confirm(`Remove ${count(state.kept.length, "kept picture")} from this server, for everybody? Answers stay.`)) removeKept(state.kept.map(({ sha256 }) => sha256));
        } }, "Remove all")));
  }

  async function removeKept(digests) {
    let removed = 0;
    try {
      for (const sha256 of digests) {
        try { await call(`/api/v1/pictures/${sha256}`, { method: "DELETE" }); removed += 1; } catch (error) { if (error.status !== 404) throw error; }
      }
      trouble("");
    } catch (error) { trouble(`${error.message}; ${count(removed, "picture")} removed.`); }
    say(`${count(removed, "picture")} removed.`);
    try { state.kept = await get("/api/v1/pictures"); } catch (error) { trouble(`${error.message}.`); }
    render();
    ($("kept") ? $("kept").querySelector("summary") : $("keep")).focus();
  }

  async function keepAll(files) {
    let kept = 0;
    try {
      for (let start = 0; start < files.length; start += 32) {
        const body = new FormData();
        for (const file of files.slice(start, start + 32)) body.append("files", file, file.name || "picture");
        kept += (await (await call("/api/v1/pictures", { method: "POST", body })).json()).length;
      }
      state.kept = await get("/api/v1/pictures");
      trouble("");
      say(`${count(kept, "picture")} kept.`);
    } catch (error) { trouble(`${error.message}; ${count(kept, "picture")} kept.`); }
    render();
  }

  async function takeKept() {
    try {
      const files = [];
      for (const { sha256, image } of state.kept.slice(0, 500)) {
        try { files.push({ file: await (await call(`/api/v1/pictures/${sha256}`)).blob(), name: image }); } catch (error) { if (error.status !== 404) throw error; } // removed meanwhile
      }
      await window.giemsa.cells.judge(files);
      window.giemsa.show("/review", false);
    } catch (error) { trouble(`${error.message}.`); }
  }

  function agreement() {
    const rows = state.agreement.filter((one) => one.n);
    const shown = (value) => (value === null ? "n/a" : value.toFixed(3));
    return h("div", { class: "card-box" }, h("h2", {}, "Agreement"),
      rows.length ? h("div", { class: "table-scroll", tabindex: "0", role: "region", "aria-label": "Agreement" }, h("table", { class: "plain-table" },
        h("caption", {}, "Cohen's kappa: 1 is perfect, 0 what chance gives. 95 % intervals by bootstrap over patients where names tell them, else over pictures."),
        h("thead", {}, h("tr", {}, ["readers", "pictures", "agree", "kappa", "interval"].map((name) => h("th", { scope: "col" }, name)))),
        h("tbody", {}, rows.map((one) => h("tr", {}, h("th", { scope: "row" }, `${one.first} and ${one.second}`), h("td", {}, one.n.toLocaleString("en")),
          h("td", {}, `${(100 * (one.table[0][0] + one.table[1][1]) / one.n).toFixed(1)} %`), h("td", {}, shown(one.kappa)),
          h("td", {}, one.kappa === null ? one.reason : `${shown(one.low)} to ${shown(one.high)} (${one.units} ${one.kind})`))))))
        : h("p", { class: "quiet" }, "It is shown here when somebody has answered."),
      h("button", { type: "button", onclick: async () => { await refresh(); render(); } }, "Compute again"));
  }

  function renderSaved() {
    const saved = $("saved");
    const waiting = unsaved();
    if (saved) saved.textContent = waiting ? `${count(waiting, "answer")} on the way …` : state.undo.length ? "All answers are kept." : "";
    document.body.dataset.unsaved = String(waiting);
  }

  addEventListener("keydown", (event) => {
    if (document.body.dataset.page !== "review" || event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input[type=text], input[type=password], select, dialog")) return;
    const chosen = ANSWERS.find(([, key]) => key === event.key.toLowerCase());
    if (chosen) answer(chosen[0]);
    else if (event.key.toLowerCase() === "z" || event.key === "Backspace") undo();
    else if (event.key === "ArrowLeft") step(-1);
    else if (event.key === "ArrowRight") step(1);
    else return;
    event.preventDefault();
  });
  addEventListener("beforeunload", (event) => { if (unsaved()) event.preventDefault(); });
})();

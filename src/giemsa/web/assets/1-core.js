/* What all parts of the page share: calls of the API, addresses, elements, words of verdicts, light and dark. */
"use strict";

window.giemsa = (() => {
  const VERDICTS = {
    parasitized: { word: "parasitized", sign: "◆" },
    indeterminate: { word: "indeterminate", sign: "?" },
    not_a_cell: { word: "not a cell", sign: "▢" },
    unreadable: { word: "unreadable", sign: "✕" },
    uninfected: { word: "uninfected", sign: "○" },
  };
  const pages = new Map();

  const $ = (id) => document.getElementById(id);

  /** Make an element; text is always text, so that no name of a file is ever read as HTML. */
  function h(tag, attributes = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (value === null || value === undefined || value === false) continue;
      if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
      else if (name === "value") element.value = value;
      else element.setAttribute(name, value === true ? "" : value);
    }
    element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
    return element;
  }

  const nameOf = (element) => element.id || element.dataset.cell || element.dataset.total || element.dataset.answer || element.getAttribute("aria-label") || element.textContent;

  /** Put other children into an element; what has the focus in it keeps it, or what stands for it among the new ones. */
  function redraw(parent, ...children) {
    const held = parent.contains(document.activeElement) ? nameOf(document.activeElement) : null;
    parent.replaceChildren(...children);
    if (held === null) return;
    const same = [...parent.querySelectorAll("button, summary, a, [tabindex]")].find((one) => nameOf(one) === held && !one.disabled);
    (same || parent).focus({ preventScroll: true });
  }

  function wordOf(verdict) {
    const { word, sign } = VERDICTS[verdict];
    return h("span", { class: "word", "data-verdict": verdict }, h("span", { class: "sign", "aria-hidden": "true" }, sign), word);
  }

  /** Show a probability with four digits, and never a certainty that is none. */
  function probability(p) {
    if (p === null || p === undefined) return "";
    return p < 0.0001 ? "<0.0001" : p > 0.9999 ? ">0.9999" : p.toFixed(4);
  }

  const count = (n, one, many = `${one}s`) => `${n.toLocaleString("en")} ${n === 1 ? one : many}`;

  class ApiError extends Error {
    constructor(status, detail, retryAfter) { super(detail); this.status = status; this.retryAfter = retryAfter; }
  }

  /** Call the API; wait and try again where it is busy, ask for a token where it wants one. */
  async function call(path, options = {}) {
    for (let attempt = 0; ; attempt += 1) {
      const headers = new Headers(options.headers);
      const token = sessionStorage.getItem("giemsa-token");
      if (token) headers.set("Authorization", `Bearer ${token}`);
      const answer = await fetch(path, { ...options, headers });
      if (answer.ok) return answer;
      let detail = `the server answered ${answer.status}`;
      try { detail = (await answer.json()).detail || detail; } catch { /* not a problem of ours */ }
      if (answer.status === 401) { await askToken(Boolean(token)); continue; }
      if (answer.status === 503 && attempt < 60) {
        if (options.onBusy) options.onBusy(detail);
        await new Promise((done) => setTimeout(done, 1000 * Number(answer.headers.get("Retry-After") || 2)));
        if (options.signal && options.signal.aborted) throw new DOMException("stopped", "AbortError");
        continue;
      }
      throw new ApiError(answer.status, detail);
    }
  }

  /** Give the lines of an answer, each a JSON object, as they come. */
  async function* linesOf(answer) {
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let pieces = [];
    for (;;) {
      const { value, done } = await reader.read();
      if (done && pieces.join("")) throw new TypeError("the answer breaks off");
      if (done) return;
      const lines = value.split("\n");
      for (const line of lines.slice(0, -1)) {
        yield JSON.parse(pieces.join("") + line);
        pieces = [];
      }
      pieces.push(lines.at(-1));
    }
  }
  const get = async (path) => (await call(path)).json();
  const post = async (path, content) =>
    (await call(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(content) })).json();

  let asking = null;
  function askToken(wrong) {
    asking = asking || new Promise((done) => {
      const dialog = $("ask-token");
      if (wrong) sessionStorage.removeItem("giemsa-token");
      $("token").value = "";
      dialog.showModal();
      dialog.addEventListener("close", () => {
        if ($("token").value) sessionStorage.setItem("giemsa-token", $("token").value.trim());
        asking = null;
        done();
      }, { once: true });
    });
    return asking;
  }

  /** Say in one sentence, in view and aloud, what went wrong; nothing takes it away again. */
  function trouble(sentence) {
    $("trouble").hidden = !sentence;
    $("trouble").textContent = sentence || "";
  }

  const say = (sentence) => { $("said").textContent = sentence; };

  function download(name, type, text) {
    const link = h("a", { href: URL.createObjectURL(new Blob([text], { type })), download: name });
    document.body.append(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  }

  /** Colours of evidence: orange speaks for a parasite, blue against one; strength is how opaque it is. */
  function evidenceCanvas(evidence, scale) {
    const [height, width] = [evidence.length, evidence[0].length];
    const canvas = h("canvas", { width, height, "aria-hidden": "true" });
    const context = canvas.getContext("2d");
    const pixels = context.createImageData(width, height);
    evidence.flat().forEach((value, index) => {
      const strength = Math.min(1, Math.abs(value) / scale);
      pixels.data.set(value > 0 ? [255, 106, 0, 200 * strength] : [0, 114, 178, 110 * strength], 4 * index);
    });
    context.putImageData(pixels, 0, 0);
    return canvas;
  }

  /** The picture of a cell, with its evidence over it if asked. */
  function figureOf(cell, scale) {
    if (!cell.picture) return h("div", { class: "shown none", "aria-hidden": "true" }, VERDICTS.unreadable.sign);
    const fit = h("div", { class: "fit" }, h("img", { src: cell.picture, alt: "", loading: "lazy", decoding: "async" }));
    const image = fit.firstChild;
    const place = () => {
      const [width, height] = [image.naturalWidth, image.naturalHeight];
      fit.style.width = width >= height ? "100%" : `${(100 * width) / height}%`;
      fit.style.aspectRatio = `${width} / ${height}`;
    };
    if (image.complete && image.naturalWidth) place(); else image.addEventListener("load", place);
    if (scale && cell.evidence) fit.append(evidenceCanvas(cell.evidence, scale));
    return h("div", { class: "shown" }, fit);
  }

  /* Addresses. */
  function page(name, onShow) { pages.set(name, onShow); }

  function show(path, push) {
    const link = [...document.querySelectorAll(".top nav a")].find((a) => a.getAttribute("href") === path)
      || document.querySelector(".top nav a");
    const name = link.dataset.page;
    if (push && location.pathname !== path) history.pushState(null, "", path);
    for (const a of document.querySelectorAll(".top nav a")) {
      if (a === link) a.setAttribute("aria-current", "page"); else a.removeAttribute("aria-current");
    }
    for (const section of document.querySelectorAll("main > section")) section.hidden = section.dataset.page !== name;
    document.body.dataset.page = name;
    document.title = `${link.textContent} · Giemsa`;
    document.dispatchEvent(new CustomEvent("giemsa-page", { detail: name }));
    const onShow = pages.get(name);
    if (onShow) onShow();
    if (push) { window.scrollTo(0, 0); $("main").focus({ preventScroll: true }); }
  }

  /** Give Dash's part once it is there; its scripts come after the page. */
  const dashReady = new Promise((done) => {
    const look = () => (document.getElementById("dash") && window.dash_clientside && window.dash_clientside.set_props
      ? done(window.dash_clientside) : setTimeout(look, 50));
    look();
  });

  function theme(chosen) {
    const dark = chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    document.documentElement.dataset.theme = dark ? "dark" : "light";
    document.documentElement.dataset.agThemeMode = dark ? "dark" : "light";
    document.dispatchEvent(new CustomEvent("giemsa-theme"));
  }
  const stored = () => { try { return localStorage.getItem("giemsa-theme"); } catch { return null; } };
  theme(stored());
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => theme(stored()));

  function start() {
    document.addEventListener("click", (event) => {
      const link = event.target.closest("a[data-page]");
      if (link && !event.ctrlKey && !event.metaKey && !event.shiftKey) { event.preventDefault(); show(link.getAttribute("href"), true); }
    });
    addEventListener("popstate", () => show(location.pathname, false));
    $("theme").addEventListener("click", () => {
      const next = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
      localStorage.setItem("giemsa-theme", next);
      theme(next);
    });
    for (const term of document.querySelectorAll("dt[data-verdict]")) term.append(wordOf(term.dataset.verdict));
    if (["localhost", "127.0.0.1", "[::1]"].includes(location.hostname)) {
      for (const where of document.querySelectorAll(".where")) where.textContent = "this machine";
    }
    show(location.pathname, false);
  }
  if (document.readyState === "loading") addEventListener("DOMContentLoaded", start); else setTimeout(start, 0);

  return { $, h, redraw, VERDICTS, ApiError, wordOf, probability, count, call, linesOf, get, post, trouble, say, download, figureOf, evidenceCanvas,
    page, show, dashReady };
})();

// @ts-check
/** Which part of the page is shown, and its address. */
import { $ } from "./dom.mjs";

/** @type {Map<string, () => unknown>} */
const listeners = new Map();

/** @returns {HTMLAnchorElement[]} */
const links = () => [...document.querySelectorAll(/** @type {"a"} */ (".top nav a"))];

/**
 * Do something whenever a part is shown.
 *
 * @param {string} name
 * @param {() => unknown} act
 */
export function onShow(name, act) {
  listeners.set(name, act);
}

/** @param {string} name */
export const isShown = (name) => document.body.dataset.page === name;

/**
 * Show the part at an address.
 *
 * @param {string} path
 * @param {boolean} push whether the browser's history gets an entry
 */
export function show(path, push) {
  const link = links().find((a) => a.getAttribute("href") === path) ?? links()[0];
  const name = link.dataset.page ?? "";
  if (push && location.pathname !== path) history.pushState(null, "", path);
  for (const a of links()) {
    if (a === link) a.setAttribute("aria-current", "page");
    else a.removeAttribute("aria-current");
  }
  for (const section of document.querySelectorAll(/** @type {"section"} */ ("main > section"))) {
    section.hidden = section.dataset.page !== name;
  }
  document.body.dataset.page = name;
  document.title = `${link.textContent} · Giemsa`;
  listeners.get(name)?.();
  if (push) {
    scrollTo(0, 0);
    $("main").focus({ preventScroll: true });
  }
}

/** Follow the links between parts without loading the page anew, and show what the address says. */
export function startPages() {
  document.addEventListener("click", (event) => {
    const target = event.target instanceof Element ? event.target : null;
    const link = target?.closest("a[data-page]");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
    event.preventDefault();
    show(link.getAttribute("href") ?? "/", true);
  });
  addEventListener("popstate", () => show(location.pathname, false));
  show(location.pathname, false);
}

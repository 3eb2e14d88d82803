// @ts-check
/** @import { VerdictName } from "./types.mjs" */
import { h } from "./dom.mjs";

/** What each verdict is called, and its sign: none is told by its colour alone. */
export const VERDICTS = Object.freeze({
  parasitized: { word: "parasitized", sign: "◆" },
  indeterminate: { word: "indeterminate", sign: "?" },
  not_a_cell: { word: "not a cell", sign: "▢" },
  unreadable: { word: "unreadable", sign: "✕" },
  uninfected: { word: "uninfected", sign: "○" },
});

/** @param {VerdictName} verdict */
export function wordOf(verdict) {
  const { word, sign } = VERDICTS[verdict];
  const shown = h("span", { class: "sign", "aria-hidden": "true" }, sign);
  return h("span", { class: "word", "data-verdict": verdict }, shown, word);
}

/**
 * A probability with four digits, and never a certainty that is none.
 *
 * @param {number | null | undefined} p
 */
export function probability(p) {
  if (p === null || p === undefined) return "";
  return p < 0.0001 ? "<0.0001" : p > 0.9999 ? ">0.9999" : p.toFixed(4);
}

/**
 * A threshold with as many digits as tell it from certainty: 0.6233, 0.00031, 0.99994.
 *
 * @param {number} p
 */
export function threshold(p) {
  const digits = Math.min(Math.max(Math.ceil(-Math.log10(Math.min(p, 1 - p) || 1)) + 2, 4), 12);
  return String(Number(p.toFixed(digits)));
}

/**
 * @param {number} n
 * @param {string} one
 * @param {string} [many]
 */
export const count = (n, one, many = `${one}s`) => `${n.toLocaleString("en")} ${n === 1 ? one : many}`;

/**
 * @param {number} share
 * @param {number} [digits]
 */
export const percent = (share, digits = 2) => `${(100 * share).toFixed(digits)} %`;

/** @param {number} bytes */
export const megabytes = (bytes) => `${Math.round(bytes / 2 ** 20).toLocaleString("en")} MB`;

// @ts-check
/** Rows as `giemsa classify` writes them; `tests/web/golden.json` holds both to the same text. */
/** @import { JudgedCell } from "./types.mjs" */

/** @type {(keyof JudgedCell)[]} */
const COLUMNS = ["image", "verdict", "p_parasitized", "novelty", "reason"];

/** @param {string} value */
const quoted = (value) => (/[",\r\n]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value);

/** @param {JudgedCell[]} cells */
export function csvOf(cells) {
  const rows = cells.map((cell) => COLUMNS.map((name) => quoted(String(cell[name] ?? ""))).join(","));
  return `${[COLUMNS.join(","), ...rows].join("\n")}\n`;
}

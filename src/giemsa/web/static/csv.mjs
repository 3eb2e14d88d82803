// @ts-check
/** Rows as `giemsa classify` writes them; `tests/web/golden.json` holds both to the same text. */
/** @import { JudgedCell } from "./types.mjs" */

/** @type {(keyof JudgedCell)[]} */
const COLUMNS = ["image", "verdict", "p_parasitized", "novelty", "reason"];
/** What a spreadsheet would run, whoever named a picture so; `giemsa/spreadsheets.py` says how it is guarded. */
const FORMULA = /^'*[=+\-@\t\r\uff1d\uff0b\uff0d\uff20]/;

/** @param {unknown} value */
const guarded = (value) => (typeof value === "string" && FORMULA.test(value) ? `'${value}` : String(value ?? ""));
/** @param {string} value */
const quoted = (value) => `"${value.replaceAll('"', '""')}"`;

/** @param {JudgedCell} cell */
function rowOf(cell) {
  const values = COLUMNS.map((name) => guarded(cell[name]));
  const all = values.some((value) => value.includes("\r"));
  return values.map((value) => (all || /[",\n]/.test(value) ? quoted(value) : value)).join(",");
}

/** @param {JudgedCell[]} cells */
export function csvOf(cells) {
  return `${[COLUMNS.join(","), ...cells.map(rowOf)].join("\n")}\n`;
}

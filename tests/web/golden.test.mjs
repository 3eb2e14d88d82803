/** The scripts' side of `golden.json`: `node --test tests/web/golden.test.mjs`. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";
import { fileURLToPath } from "node:url";
import { csvOf } from "../../src/giemsa/web/static/csv.mjs";
import { nearest, predictiveValues, ratesAt } from "../../src/giemsa/web/static/numbers.mjs";

const read = (/** @type {string} */ path) => readFileSync(fileURLToPath(new URL(path, import.meta.url)), "utf-8");
const golden = JSON.parse(read("golden.json"));

/**
 * @param {Record<string, number | boolean>} found
 * @param {Record<string, number | boolean>} expected
 */
function same(found, expected) {
  for (const [name, value] of Object.entries(expected)) {
    const other = found[name];
    if (typeof value !== "number" || typeof other !== "number") assert.equal(other, value, name);
    else
      assert.ok(Math.abs(other - value) <= 1e-6 * Math.max(1e-3, Math.abs(value)), `${name}: ${other}, not ${value}`);
  }
}

test("sensitivity and specificity are those of the metrics", () => {
  for (const { curve, expected } of golden.rates) same(ratesAt(curve, 0), expected);
});

test("predictive values are the precision among as many infected cells", () => {
  for (const { sensitivity, specificity, prevalence, expected } of golden.predictive_values) {
    same(predictiveValues(sensitivity, specificity, prevalence), expected);
  }
});

test("a table has the same bytes", () => {
  assert.equal(csvOf(golden.csv.cells), golden.csv.expected);
});

test("the nearest value is found, the first of equals", () => {
  assert.equal(nearest([0.1, 0.4, 0.5], 0.44), 1);
  assert.equal(nearest([0, 1, 1], 2), 1);
});

// Holds the count in report.js to what Python computes: node --test tests/smear/count_vectors.test.mjs
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import vm from "node:vm";

const here = (path) => readFileSync(new URL(path, import.meta.url), "utf-8");
globalThis.window = globalThis;
vm.runInThisContext(here("../../src/giemsa/smear/report.js"));
const { bases, cases } = JSON.parse(here("../data/count_vectors.json"));

function close(found, expected, where) {
  if (typeof expected === "number") {
    assert.ok(Math.abs(found - expected) <= 1e-7 * Math.abs(expected) + 1e-12, `${where}: ${found}, expected ${expected}`);
  } else if (expected !== null && typeof expected === "object") {
    for (const [key, value] of Object.entries(expected)) close(found[key], value, `${where}.${key}`);
  } else assert.equal(found, expected, where);
}

assert.ok(cases.length > 10);
for (const one of cases) {
  test(one.name, () => {
    const basis = { ...bases[one.basis], critical: one.critical, red_cells_per_ul: one.red_cells_per_ul };
    const count = giemsaCount.count(one.evidence, basis);
    close(count, one.count, "count");
    assert.deepEqual(giemsaCount.nextStrata(one.evidence, basis.known, basis.reader, 12), one.next);
    assert.equal(giemsaCount.headline(count), one.headline);
    assert.equal(giemsaCount.meaning(count, basis.measured), one.meaning);
    assert.equal(giemsaCount.perMicrolitre(count), one.per_microlitre);
  });
}

// @ts-check
/** The page: each part is a module of its own; this starts them. */
import { startCells } from "./cells.mjs";
import { startModel } from "./model.mjs";
import { startPages } from "./pages.mjs";
import { startReview } from "./review.mjs";
import { startSmear } from "./smear.mjs";
import { startTheme } from "./theme.mjs";
import { wordOf } from "./words.mjs";

const HERE = ["localhost", "127.0.0.1", "[::1]"];

startTheme();
for (const term of document.querySelectorAll(/** @type {"dt"} */ ("dt[data-verdict]"))) {
  term.append(wordOf(/** @type {import("./types.mjs").VerdictName} */ (term.dataset.verdict)));
}
if (HERE.includes(location.hostname)) {
  for (const where of document.querySelectorAll(".where")) where.textContent = "this machine";
}
startCells();
startSmear();
startModel();
startReview();
startPages();

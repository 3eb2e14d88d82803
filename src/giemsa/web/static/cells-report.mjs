// @ts-check
/** The cells that are shown, as one HTML file that opens anywhere; its form is `templates/cells-report.html`. */
/** @import { Cell, Model } from "./types.mjs" */
import { call } from "./api.mjs";
import { evidenceCanvas } from "./pictures.mjs";
import { Report } from "./reports.mjs";
import { probability, threshold, VERDICTS } from "./words.mjs";

/**
 * @param {object} what
 * @param {Cell[]} what.cells those that are shown
 * @param {number} what.of how many there are
 * @param {string} what.summary
 * @param {Model | null} what.model
 * @param {number} what.scale of the evidence; 0 where it is not shown
 */
export async function cellsReport({ cells, of, summary, model, scale }) {
  const report = new Report(await (await call("/cells-report.html")).text());
  report.document.title = `Giemsa: ${summary}`;
  report.get("summary").textContent = summary;
  const judged = model
    ? `Model ${model.name} (SHA-256 ${model.sha256}), ${model.provider}, Giemsa ${model.giemsa}; ` +
      `parasitized where p_parasitized >= ${threshold(model.threshold)}.`
    : "Nothing was judged.";
  const made = `Made ${new Date().toISOString().replace(/\.\d+Z/, "Z")}.`;
  const some = cells.length < of ? ` Shown are ${cells.length.toLocaleString("en")} of them.` : "";
  report.get("about").textContent = `${judged} ${made}${some}`;
  const form = report.get("cell");
  if (!(form instanceof HTMLTemplateElement)) throw new Error("the report has no form of a cell");
  const { content } = form;
  report.get("cells").append(...cells.map((cell) => entryOf(content, cell, scale)));
  form.remove();
  return report.text();
}

/**
 * @param {DocumentFragment} form
 * @param {Cell} cell
 * @param {number} scale
 */
function entryOf(form, cell, scale) {
  const entry = /** @type {DocumentFragment} */ (form.cloneNode(true));
  const part = (/** @type {string} */ name) => /** @type {HTMLElement} */ (entry.querySelector(name));
  const [picture, over] = [part("img.cell"), part("img.over")];
  part("li").classList.add(cell.verdict);
  part("b").textContent = `${VERDICTS[cell.verdict].sign} ${VERDICTS[cell.verdict].word}`;
  part(".p").textContent = cell.p_parasitized === null ? "" : `p parasitized ${probability(cell.p_parasitized)}`;
  part(".why").textContent = cell.reason;
  part("small").textContent = cell.image;
  if (cell.picture) picture.setAttribute("src", cell.picture);
  else part(".pic").replaceChildren(VERDICTS.unreadable.sign);
  if (cell.picture && scale && cell.evidence)
    over.setAttribute("src", evidenceCanvas(cell.evidence, scale).toDataURL());
  else over.remove();
  return entry;
}

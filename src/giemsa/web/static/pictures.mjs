// @ts-check
/** Pictures of cells, and the evidence over them. */
/** @import { Cell } from "./types.mjs" */
import { h } from "./dom.mjs";
import { VERDICTS } from "./words.mjs";

/**
 * Evidence as a picture: orange speaks for a parasite, blue against one; strength is how opaque it is.
 *
 * @param {number[][]} evidence
 * @param {number} scale the strength that is shown in full
 */
export function evidenceCanvas(evidence, scale) {
  const [height, width] = [evidence.length, evidence[0].length];
  const canvas = h("canvas", { width, height, "aria-hidden": "true" });
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  const pixels = context.createImageData(width, height);
  evidence.flat().forEach((value, index) => {
    const strength = Math.min(1, Math.abs(value) / scale);
    pixels.data.set(value > 0 ? [255, 106, 0, 200 * strength] : [0, 114, 178, 110 * strength], 4 * index);
  });
  context.putImageData(pixels, 0, 0);
  return canvas;
}

/**
 * The picture of a cell, with its evidence over it where a scale is given.
 *
 * @param {Cell} cell
 * @param {number} scale
 */
export function figureOf(cell, scale) {
  if (!cell.picture) return h("div", { class: "shown none", "aria-hidden": "true" }, VERDICTS.unreadable.sign);
  const image = h("img", { src: cell.picture, alt: "", loading: "lazy", decoding: "async" });
  const fit = h("div", { class: "fit" }, image);
  const place = () => {
    const [width, height] = [image.naturalWidth, image.naturalHeight];
    fit.style.width = width >= height ? "100%" : `${(100 * width) / height}%`;
    fit.style.aspectRatio = `${width} / ${height}`;
  };
  if (image.complete && image.naturalWidth) place();
  else image.addEventListener("load", place);
  if (scale && cell.evidence) fit.append(evidenceCanvas(cell.evidence, scale));
  return h("div", { class: "shown" }, fit);
}

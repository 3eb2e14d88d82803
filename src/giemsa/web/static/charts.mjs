// @ts-check
/** Curves as SVG: lines with axes, the nearest point told in words, one of them picked by a click. */
import { h, svg } from "./dom.mjs";

/**
 * @typedef {object} Axis
 * @property {string} label
 * @property {number} from
 * @property {number} to
 * @property {number[]} ticks
 * @property {(value: number) => string} format
 *
 * @typedef {{ x: number, y: number, said?: string, value?: number }} Point
 *
 * @typedef {object} Series
 * @property {string} name
 * @property {"main" | "other" | "guide"} kind
 * @property {Point[]} points
 * @property {boolean} [dots]
 *
 * @typedef {object} Chart
 * @property {string} title
 * @property {Axis} x
 * @property {Axis} y
 * @property {Series[]} series
 * @property {Point} [mark]
 * @property {(point: Point) => void} [pick]
 */

const MARGIN = { left: 62, right: 26, top: 12, bottom: 50 };
const HEIGHT = 400;
const REACH = 40; // pixels from a point within which it is told
let charts = 0;

/**
 * Draw a chart into an element as wide as that is; what was drawn before goes.
 *
 * @param {HTMLElement} host
 * @param {Chart} chart
 */
export function drawChart(host, chart) {
  charts += 1;
  const width = Math.max(host.clientWidth, 240);
  const inner = { width: width - MARGIN.left - MARGIN.right, height: HEIGHT - MARGIN.top - MARGIN.bottom };
  /** @param {number} x */
  const atX = (x) => MARGIN.left + (inner.width * (x - chart.x.from)) / (chart.x.to - chart.x.from);
  /** @param {number} y */
  const atY = (y) => MARGIN.top + (inner.height * (chart.y.to - y)) / (chart.y.to - chart.y.from);
  const clip = `chart-clip-${charts}`;
  const frame = { x: MARGIN.left, y: MARGIN.top, width: inner.width, height: inner.height };
  const drawing = svg("svg", {
    viewBox: `0 0 ${width} ${HEIGHT}`,
    class: "chart",
    role: "img",
    "aria-label": chart.title,
  });
  const reading = svg("circle", { class: "reading", r: 5, visibility: "hidden" });
  drawing.append(
    svg("clipPath", { id: clip }, svg("rect", frame)),
    ...gridOf(chart, atX, atY, frame),
    svg("g", { "clip-path": `url(#${clip})` }, ...chart.series.map((series) => lineOf(series, atX, atY))),
    svg("rect", { ...frame, class: "frame" }),
  );
  if (chart.mark) drawing.append(svg("circle", { class: "mark", cx: atX(chart.mark.x), cy: atY(chart.mark.y), r: 7 }));
  drawing.append(reading);
  const told = h("output", { class: "quiet told" });
  const near = pointNear(chart, drawing, atX, atY);
  drawing.addEventListener("pointermove", (event) => {
    const found = near(event);
    reading.setAttribute("visibility", found ? "visible" : "hidden");
    told.textContent = found?.point.said ? `${found.series.name}: ${found.point.said}` : "";
    if (!found) return;
    reading.setAttribute("cx", String(atX(found.point.x)));
    reading.setAttribute("cy", String(atY(found.point.y)));
  });
  drawing.addEventListener("pointerleave", () => reading.setAttribute("visibility", "hidden"));
  const { pick } = chart;
  if (pick) {
    drawing.classList.add("picks");
    drawing.addEventListener("click", (event) => {
      const found = near(event);
      if (found) pick(found.point);
    });
  }
  host.replaceChildren(drawing, legendOf(chart), told);
}

/**
 * @param {Chart} chart
 * @param {(x: number) => number} atX
 * @param {(y: number) => number} atY
 * @param {{ x: number, y: number, width: number, height: number }} frame
 */
function gridOf(chart, atX, atY, frame) {
  const [bottom, right] = [frame.y + frame.height, frame.x + frame.width];
  const middle = frame.y + frame.height / 2;
  return [
    ...chart.x.ticks.flatMap((tick) => [
      svg("line", { class: "tick", x1: atX(tick), x2: atX(tick), y1: frame.y, y2: bottom }),
      svg("text", { x: atX(tick), y: bottom + 18, "text-anchor": "middle" }, chart.x.format(tick)),
    ]),
    ...chart.y.ticks.flatMap((tick) => [
      svg("line", { class: "tick", x1: frame.x, x2: right, y1: atY(tick), y2: atY(tick) }),
      svg("text", { x: frame.x - 8, y: atY(tick) + 4, "text-anchor": "end" }, chart.y.format(tick)),
    ]),
    svg("text", { x: frame.x + frame.width / 2, y: bottom + 40, "text-anchor": "middle" }, chart.x.label),
    svg("text", { x: 14, y: middle, "text-anchor": "middle", transform: `rotate(-90 14 ${middle})` }, chart.y.label),
  ];
}

/**
 * @param {Series} series
 * @param {(x: number) => number} atX
 * @param {(y: number) => number} atY
 */
function lineOf(series, atX, atY) {
  const path = series.points.map(({ x, y }, i) => `${i ? "L" : "M"}${atX(x).toFixed(1)} ${atY(y).toFixed(1)}`).join("");
  const line = svg("g", { class: `line ${series.kind}` }, svg("path", { d: path }));
  if (series.dots) line.append(...series.points.map(({ x, y }) => svg("circle", { cx: atX(x), cy: atY(y), r: 5 })));
  return line;
}

/**
 * @param {Chart} chart
 * @param {SVGSVGElement} drawing
 * @param {(x: number) => number} atX
 * @param {(y: number) => number} atY
 * @returns {(event: MouseEvent) => { point: Point, series: Series } | null}
 */
function pointNear(chart, drawing, atX, atY) {
  const all = chart.series
    .filter(({ kind }) => kind !== "guide")
    .flatMap((series) => series.points.map((point) => ({ point, series })))
    .filter(({ point }) => point.x >= chart.x.from && point.x <= chart.x.to && point.y >= chart.y.from);
  return (event) => {
    const box = drawing.getBoundingClientRect();
    const scale = drawing.viewBox.baseVal.width / box.width;
    const [x, y] = [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
    let best = null;
    let least = REACH;
    for (const one of all) {
      const distance = Math.hypot(atX(one.point.x) - x, atY(one.point.y) - y);
      if (distance < least) [best, least] = [one, distance];
    }
    return best;
  };
}

/** @param {Chart} chart */
function legendOf(chart) {
  const sample = (/** @type {string} */ kind) =>
    svg(
      "svg",
      { viewBox: "0 0 30 10", width: 30, height: 10, "aria-hidden": "true" },
      svg("g", { class: `line ${kind}` }, svg("path", { d: "M0 5H30" })),
    );
  return h(
    "ul",
    { class: "chart-legend" },
    chart.series.map(({ name, kind }) => h("li", {}, sample(kind), name)),
  );
}

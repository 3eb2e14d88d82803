// @ts-check
/** Elements. Text is always text, so that no name of a file is ever read as HTML. */

/** @typedef {Node | string | null | undefined | false} Child */
/** @typedef {string | number | boolean | null | undefined | ((event: any) => unknown)} Attribute */

/**
 * The element of the page's templates with this id.
 *
 * @template {HTMLElement} T
 * @param {string} id
 * @param {new () => T} kind
 * @returns {T}
 */
export function element(id, kind) {
  const found = document.getElementById(id);
  if (!(found instanceof kind)) throw new Error(`there is no ${kind.name} #${id} in the page`);
  return found;
}

/** @param {string} id */
export const $ = (id) => element(id, HTMLElement);

/**
 * A new element; attributes that begin with `on` are listeners, and null, undefined and false are left out.
 *
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Record<string, Attribute>} [attributes]
 * @param {...(Child | Child[] | Child[][])} children
 * @returns {HTMLElementTagNameMap[Tag]}
 */
export function h(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  setAttributes(made, attributes);
  made.append(...kept(children));
  return made;
}

/**
 * The same for SVG.
 *
 * @template {keyof SVGElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Record<string, Attribute>} [attributes]
 * @param {...(Child | Child[])} children
 * @returns {SVGElementTagNameMap[Tag]}
 */
export function svg(tag, attributes = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  setAttributes(made, attributes);
  made.append(...kept(children));
  return made;
}

/**
 * @param {Element} made
 * @param {Record<string, Attribute>} attributes
 */
function setAttributes(made, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") made.addEventListener(name.slice(2), value);
    else if (name === "value" && made instanceof HTMLInputElement) made.value = String(value);
    else made.setAttribute(name, value === true ? "" : String(value));
  }
}

/**
 * @param {(Child | Child[] | Child[][])[]} children
 * @returns {(Node | string)[]}
 */
function kept(children) {
  const flat = /** @type {Child[]} */ (children.flat(Number.POSITIVE_INFINITY));
  return flat.filter((child) => child !== null && child !== undefined && child !== false);
}

/** @param {HTMLElement} one */
function nameOf(one) {
  const { cell, total, answer } = one.dataset;
  return one.id || cell || total || answer || one.getAttribute("aria-label") || one.textContent;
}

/**
 * Replace the children of an element; what has the focus in it keeps it, or what stands for it among the new ones.
 *
 * @param {HTMLElement} parent
 * @param {...(Node | string)} children
 */
export function redraw(parent, ...children) {
  const active = document.activeElement;
  const held = active instanceof HTMLElement && parent.contains(active) ? nameOf(active) : null;
  parent.replaceChildren(...children);
  if (held === null) return;
  const candidates = /** @type {HTMLElement[]} */ ([
    ...parent.querySelectorAll("button:not(:disabled), summary, a, [tabindex]"),
  ]);
  (candidates.find((one) => nameOf(one) === held) || parent).focus({ preventScroll: true });
}

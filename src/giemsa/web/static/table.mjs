// @ts-check
/** A table that people sort and turn over: thousands of rows, of which one page at a time is in the document. */
import { h } from "./dom.mjs";

const SIZES = [100, 500, 1000];

/**
 * @template Row
 * @typedef {object} Column
 * @property {string} name
 * @property {(row: Row) => Node | string} show
 * @property {(row: Row) => string | number | null} [by] what it is sorted by, where it can be; null comes last
 * @property {boolean} [numeric]
 * @property {(rows: Row[]) => boolean} [needed] whether these rows have anything to show in it
 */

/**
 * @template Row
 */
export class Table {
  /**
   * @param {HTMLElement} host emptied, and filled with the table
   * @param {string} caption
   * @param {Column<Row>[]} columns
   * @param {(row: Row) => void} open called with the row that is clicked
   */
  constructor(host, caption, columns, open) {
    this.columns = columns;
    this.open = open;
    /** @type {Row[]} */
    this.rows = [];
    /** @type {Column<Row> | null} */
    this.sortedBy = null;
    this.descending = false;
    this.first = 0;
    this.size = SIZES[0];
    this.head = h("thead");
    this.body = h("tbody");
    this.place = h("span", { role: "status" });
    this.previous = h("button", { type: "button", onclick: () => this.turn(-1) }, "Previous page");
    this.next = h("button", { type: "button", onclick: () => this.turn(1) }, "Next page");
    const sizes = h("select");
    sizes.addEventListener("change", () => this.resize(Number(sizes.value)));
    sizes.append(...SIZES.map((size) => h("option", { value: String(size) }, String(size))));
    const scroll = { class: "table-scroll tall", tabindex: 0, role: "region", "aria-label": caption };
    this.scroll = h("div", scroll, h("table", { class: "rows" }, this.head, this.body));
    this.pager = h("div", { class: "row pager", role: "group", "aria-label": "Pages of the table" });
    this.pager.append(this.previous, this.next, this.place, h("label", { class: "field" }, "Rows a page ", sizes));
    host.replaceChildren(this.scroll, this.pager);
  }

  /** @param {Row[]} rows in the order that holds where nothing is sorted */
  show(rows) {
    this.rows = rows;
    this.draw();
  }

  draw() {
    const shown = this.columns.filter((column) => column.needed?.(this.rows) ?? true);
    this.drawHead(shown);
    const rows = this.sorted();
    this.first = Math.max(0, Math.min(this.first, this.size * Math.floor((rows.length - 1) / this.size)));
    const page = rows.slice(this.first, this.first + this.size);
    this.body.replaceChildren(...page.map((row) => this.rowOf(row, shown)));
    const last = this.first + page.length;
    const [from, to, of] = [this.first + 1, last, rows.length].map((n) => n.toLocaleString("en"));
    this.place.textContent = rows.length ? `${from} to ${to} of ${of}` : "No rows";
    this.previous.disabled = this.first === 0;
    this.next.disabled = last >= rows.length;
  }

  /** @param {Column<Row>[]} shown */
  drawHead(shown) {
    const names = shown.map((column) => column.name).join();
    if (this.head.dataset.names !== names) {
      this.head.dataset.names = names;
      this.head.replaceChildren(
        h(
          "tr",
          {},
          shown.map((column) => this.headOf(column)),
        ),
      );
    }
    const cells = [...this.head.querySelectorAll("th")];
    shown.forEach((column, index) => {
      if (!column.by) return;
      const order = this.sortedBy !== column ? "none" : this.descending ? "descending" : "ascending";
      cells[index].setAttribute("aria-sort", order);
    });
  }

  /** @param {Column<Row>} column */
  headOf(column) {
    const attributes = { scope: "col", class: column.numeric ? "number" : null };
    if (!column.by) return h("th", attributes, column.name);
    const arrow = h("span", { class: "arrow", "aria-hidden": "true" });
    return h("th", attributes, h("button", { type: "button", onclick: () => this.sort(column) }, column.name, arrow));
  }

  /**
   * @param {Row} row
   * @param {Column<Row>[]} shown
   */
  rowOf(row, shown) {
    const cells = shown.map((column) => h("td", { class: column.numeric ? "number" : null }, column.show(row)));
    return h("tr", { onclick: () => this.open(row) }, cells);
  }

  sorted() {
    const by = this.sortedBy?.by;
    if (!by) return this.rows;
    const direction = this.descending ? -1 : 1;
    return this.rows.slice().sort((one, other) => {
      const [a, b] = [by(one), by(other)];
      if (a === null || b === null) return Number(a === null) - Number(b === null);
      const order =
        typeof a === "number" && typeof b === "number"
          ? a - b
          : String(a).localeCompare(String(b), "en", { numeric: true });
      return direction * order;
    });
  }

  /**
   * Sort upwards, then downwards, then not.
   *
   * @param {Column<Row>} column
   */
  sort(column) {
    if (this.sortedBy !== column) [this.sortedBy, this.descending] = [column, false];
    else if (!this.descending) this.descending = true;
    else this.sortedBy = null;
    this.first = 0;
    this.draw();
  }

  /** @param {number} pages */
  turn(pages) {
    this.first += pages * this.size;
    this.draw();
    this.scroll.scrollTop = 0;
  }

  /** @param {number} size */
  resize(size) {
    this.size = size;
    this.first = size * Math.floor(this.first / size);
    this.draw();
  }
}

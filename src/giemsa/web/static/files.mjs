// @ts-check
/** Files that a person drops or keeps. */
/** @import { Item } from "./types.mjs" */
import { h } from "./dom.mjs";

const PICTURE = /\.(png|jpe?g|jpe|tiff?|bmp|webp|zip)$/i;

/**
 * Offer a text as a file.
 *
 * @param {string} name
 * @param {string} type
 * @param {string} text
 */
export function download(name, type, text) {
  const link = h("a", { href: URL.createObjectURL(new Blob([text], { type })), download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

/**
 * The files of an input, which is emptied, so that the same may be chosen again.
 *
 * @param {HTMLInputElement} chosen
 * @returns {Item[]}
 */
export function filesIn(chosen) {
  const files = [...(chosen.files ?? [])].map((file) => ({ file, name: file.name }));
  chosen.value = "";
  return files;
}

/**
 * The files that were dropped, those of folders too, by their names.
 *
 * @param {DataTransfer} transfer
 * @returns {Promise<Item[]>}
 */
export async function filesOf(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry()).filter((entry) => entry !== null);
  if (!entries.some((entry) => entry.isDirectory)) {
    return [...transfer.files].map((file) => ({ file, name: file.name }));
  }
  /** @type {Item[]} */
  const found = [];
  for (const entry of entries) await walk(entry, "", found);
  return found.sort((a, b) => a.name.localeCompare(b.name, "en"));
}

/**
 * @param {FileSystemEntry} entry
 * @param {string} path
 * @param {Item[]} found
 */
async function walk(entry, path, found) {
  if (entry.name.startsWith(".") || entry.name === "__MACOSX") return;
  if (entry.isFile) {
    const one = /** @type {FileSystemFileEntry} */ (entry);
    /** @type {File} */
    const file = await new Promise((done, failed) => one.file(done, failed));
    if (!path || PICTURE.test(entry.name)) found.push({ file, name: path + entry.name });
    return;
  }
  const reader = /** @type {FileSystemDirectoryEntry} */ (entry).createReader();
  for (;;) {
    /** @type {FileSystemEntry[]} */
    const some = await new Promise((done, failed) => reader.readEntries(done, failed));
    if (!some.length) return;
    for (const inner of some) await walk(inner, `${path}${entry.name}/`, found);
  }
}

/**
 * Take what is dropped anywhere while a page is shown; its box shows that it would.
 *
 * @param {string} page
 * @param {HTMLElement} box
 * @param {(files: Item[]) => void} take
 */
export function takeDrops(page, box, take) {
  const here = () => document.body.dataset.page === page;
  addEventListener("dragover", (event) => {
    event.preventDefault();
    if (here()) box.classList.add("over");
  });
  addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) box.classList.remove("over");
  });
  addEventListener("drop", async (event) => {
    event.preventDefault();
    box.classList.remove("over");
    if (here() && event.dataTransfer) take(await filesOf(event.dataTransfer));
  });
}

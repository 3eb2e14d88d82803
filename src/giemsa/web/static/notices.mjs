// @ts-check
/** What is told in a sentence: in view and aloud, or aloud only. */
import { $ } from "./dom.mjs";

/**
 * Show what went wrong, until something else is shown or the sentence is empty.
 *
 * @param {string} sentence
 */
export function trouble(sentence) {
  $("trouble").hidden = !sentence;
  $("trouble").textContent = sentence;
}

/** @param {unknown} error */
export function troubleOf(error) {
  trouble(`${error instanceof Error ? error.message : String(error)}.`);
}

/** @param {string} sentence */
export function say(sentence) {
  $("said").textContent = sentence;
}

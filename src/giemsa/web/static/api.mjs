// @ts-check
/** Calls of the API, like those of any other client. */
import { element } from "./dom.mjs";

/** An answer that is no success; `detail` of its problem is the message. */
export class ApiError extends Error {
  /**
   * @param {number} status
   * @param {string} detail
   */
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

const TRIES = 60;

/**
 * Call the API; wait and try again where it is busy, ask for a token where it wants one.
 *
 * @param {string} path
 * @param {RequestInit & { onBusy?: (why: string) => void }} [options]
 */
export async function call(path, options = {}) {
  for (let attempt = 0; ; attempt += 1) {
    const headers = new Headers(options.headers);
    const token = sessionStorage.getItem("giemsa-token");
    if (token) headers.set("Authorization", `Bearer ${token}`);
    const answer = await fetch(path, { ...options, headers });
    if (answer.ok) return answer;
    const detail = await detailOf(answer);
    if (answer.status === 401) await askToken(Boolean(token));
    else if (answer.status === 503 && attempt < TRIES && options.onBusy) {
      options.onBusy(detail);
      await new Promise((done) => setTimeout(done, 1000 * Number(answer.headers.get("Retry-After") || 2)));
      if (options.signal?.aborted) throw new DOMException("stopped", "AbortError");
    } else throw new ApiError(answer.status, detail);
  }
}

/** @param {Response} answer */
async function detailOf(answer) {
  try {
    return String((await answer.json()).detail || answer.status);
  } catch {
    return `the server answered ${answer.status}`; // no problem of ours
  }
}

/** @param {string} path */
export const get = async (path) => (await call(path)).json();

/**
 * @param {string} path
 * @param {object} content
 */
export async function post(path, content) {
  const headers = { "Content-Type": "application/json" };
  return (await call(path, { method: "POST", headers, body: JSON.stringify(content) })).json();
}

/**
 * The lines of an answer, each a JSON object, as they come.
 *
 * @param {Response} answer
 * @returns {AsyncGenerator<any>}
 */
export async function* linesOf(answer) {
  if (!answer.body) throw new TypeError("the answer is empty");
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  /** @type {string[]} */
  let pieces = [];
  for (;;) {
    const { value, done } = await reader.read();
    if (done && pieces.join("")) throw new TypeError("the answer breaks off");
    if (done) return;
    const lines = value.split("\n");
    for (const line of lines.slice(0, -1)) {
      yield JSON.parse(pieces.join("") + line);
      pieces = [];
    }
    pieces.push(lines.at(-1) ?? "");
  }
}

/** @type {Promise<void> | null} */
let asking = null;

/**
 * Ask for the token once, whoever needs it.
 *
 * @param {boolean} wrong whether the one that is known was refused
 */
function askToken(wrong) {
  asking ??= new Promise((done) => {
    const dialog = element("ask-token", HTMLDialogElement);
    const field = element("token", HTMLInputElement);
    if (wrong) sessionStorage.removeItem("giemsa-token");
    field.value = "";
    dialog.showModal();
    const closed = () => {
      if (field.value) sessionStorage.setItem("giemsa-token", field.value.trim());
      asking = null;
      done();
    };
    dialog.addEventListener("close", closed, { once: true });
  });
  return asking;
}

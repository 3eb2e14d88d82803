// @ts-check
/**
 * Reports as documents: opened without running or styling anything here, filled, and written again.
 *
 * The page's policy allows no styles but those in files, and a document that is parsed is under it: so the styles are
 * taken out of the text before, and put back into what is written.
 */

export class Report {
  /** @param {string} html */
  constructor(html) {
    /** @type {string[]} */
    const styles = [];
    const bare = html.replace(/<style>([\s\S]*?)<\/style>/g, (_whole, css) => {
      styles.push(css);
      return "";
    });
    this.css = styles.join("\n");
    this.document = new DOMParser().parseFromString(bare, "text/html"); // its scripts do not run
  }

  /** @param {string} id */
  get(id) {
    const found = this.document.getElementById(id);
    if (!found) throw new Error(`there is no #${id} in the report`);
    return found;
  }

  /** The styles, for a tree of its own. */
  sheet() {
    const sheet = new CSSStyleSheet();
    sheet.replaceSync(this.css);
    return sheet;
  }

  /** The whole document as a file. */
  text() {
    const html = this.document.documentElement.outerHTML;
    return `<!doctype html>\n${html.replace("</head>", () => `<style>${this.css}</style>\n</head>`)}\n`;
  }
}

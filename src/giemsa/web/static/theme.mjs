// @ts-check
/** Light and dark: as the system says, or as the person chose. */
import { $ } from "./dom.mjs";

const KEY = "giemsa-theme";
const dark = matchMedia("(prefers-color-scheme: dark)");

function chosen() {
  try {
    return localStorage.getItem(KEY);
  } catch {
    return null;
  }
}

function apply() {
  const theme = chosen();
  if (theme) document.documentElement.dataset.theme = theme;
}

export function startTheme() {
  apply();
  $("theme").addEventListener("click", () => {
    const now = document.documentElement.dataset.theme ?? (dark.matches ? "dark" : "light");
    document.documentElement.dataset.theme = now === "dark" ? "light" : "dark";
    try {
      localStorage.setItem(KEY, document.documentElement.dataset.theme);
    } catch {
      return; // it holds until the tab is closed
    }
  });
}

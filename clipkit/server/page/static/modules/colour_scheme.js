// The switch for the colour scheme, which this browser keeps; `first_paint.js` applies it when the page is loaded.

import { byId } from "./dom.js";

const KEY = "clipkit:scheme";
const PAPER = /** @type {Record<string, string>} */ ({ light: "#fcfcfa", dark: "#121313" });

const kept = () => {
  try {
    return localStorage.getItem(KEY) ?? "system";
  } catch {
    return "system";
  }
};

/** Listen to the switch; called once. */
export function prepareColourScheme() {
  const choices = byId("scheme");
  choices.addEventListener("change", (/** @type {Event} */ event) => {
    const scheme = /** @type {HTMLInputElement} */ (event.target).value;
    try {
      localStorage.setItem(KEY, scheme);
    } catch {
      // It holds for as long as the page is open.
    }
    apply(scheme);
  });
  choices.addEventListener("toggle", (/** @type {ToggleEvent} */ event) => event.newState === "open" && choices.querySelector(":checked")?.focus());
  // Choosing by pointer or Enter is the end of it; the arrows try one after another.
  choices.addEventListener("click", (/** @type {MouseEvent} */ event) => event.detail > 0 && choices.hidePopover());
  choices.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
    event.stopPropagation();
    if (event.key !== "Enter") return;
    // Or it would press the button, which gets the focus back.
    event.preventDefault();
    choices.hidePopover();
  });
  // Another tab of the same library.
  addEventListener("storage", (event) => event.key === KEY && apply(kept()));
  apply(kept());
}

function apply(/** @type {string} */ scheme) {
  const root = document.documentElement;
  const chosen = scheme === "light" || scheme === "dark" ? scheme : "";
  if (chosen) root.dataset.scheme = chosen;
  else delete root.dataset.scheme;
  for (const meta of document.querySelectorAll('meta[name="theme-color"]')) {
    const own = meta.getAttribute("media")?.includes("dark") ? "dark" : "light";
    meta.setAttribute("content", PAPER[chosen || own]);
  }
  const word = chosen || "system";
  byId("scheme-button").querySelector("use").setAttribute("href", `#icon-${word}`);
  const input = byId("scheme").querySelector(`[value="${word}"]`);
  input.checked = true;
}

// Where each entry of the history was scrolled to; pages of results that were loaded then are loaded again.

import { newKey } from "./state.js";

const MOST_PAGES = 30;
const place = () => `scroll:${history.state?.key}`;

/** Note where the page is scrolled to; called once. */
export function keepPlace() {
  history.scrollRestoration = "manual";
  if (!history.state?.key) history.replaceState({ ...history.state, key: newKey() }, "");
  /** @type {number | undefined} */
  let waiting;
  addEventListener("scroll", () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => sessionStorage.setItem(place(), String(Math.round(scrollY))), 120);
  }, { passive: true });
}

/** Scroll to where this entry of the history was left. */
export async function restorePlace(/** @type {any} */ view) {
  const top = Number(sessionStorage.getItem(place()) ?? 0);
  const missing = () => top + innerHeight > document.documentElement.scrollHeight;
  for (let page = 0; page < MOST_PAGES && view.next && missing(); page++) await view.load();
  if (top) scrollTo({ top, behavior: "instant" });
}

// Where each entry of the history was scrolled to, and which picture had the focus; pages of results that were loaded
// then are loaded again.

import { newKey } from "./state.js";

const MOST_PAGES = 30;
const place = () => `scroll:${history.state?.key}`;
const picture = () => `focus:${history.state?.key}`;

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
  document.addEventListener("focusin", (event) => {
    const tile = /** @type {HTMLElement | null} */ (event.target instanceof Element ? event.target.closest(".tile") : null);
    if (tile?.dataset.key) sessionStorage.setItem(picture(), tile.dataset.key);
  });
}

/** Scroll to where this entry of the history was left. */
export async function restorePlace(/** @type {any} */ view) {
  const top = Number(sessionStorage.getItem(place()) ?? 0);
  const missing = () => top + innerHeight > document.documentElement.scrollHeight;
  for (let page = 0; page < MOST_PAGES && view.next && missing(); page++) await view.load();
  if (top) scrollTo({ top, behavior: "instant" });
  const key = sessionStorage.getItem(picture());
  const link = key && document.querySelector(`.tile[data-key="${CSS.escape(key)}"] .tile-link`);
  if (link && document.activeElement === document.body) /** @type {HTMLElement} */ (link).focus({ preventScroll: true });
}

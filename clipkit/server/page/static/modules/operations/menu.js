// The menu of a picture: all that can be done with it.

import { copy, element, icon, piece, toast } from "../dom.js";
import { showInTimeline } from "../details.js";
import { name } from "../items.js";
import { library } from "../library.js";
import { isSearch, now, pictureTerm, visit } from "../state.js";
import { closeViewer } from "../viewer.js";
import { ask, start, whyNot } from "./start.js";

/** @typedef {import("../items.js").Item} Item */
/** @typedef {{label: string, icon: string, key?: string, run: (item: Item) => unknown}} Entry */

/** What makes new pictures of one. @type {Entry[]} */
const MAKING = [
  { label: "Vary", icon: "vary", run: (item) => start("vary", item, { n: 4 }) },
  { label: "Restyle\u2026", icon: "restyle", run: (item) => ask("restyle", item) },
  { label: "Edit\u2026", icon: "edit", run: (item) => ask("edit", item) },
  { label: "Extend\u2026", icon: "extend", run: (item) => ask("extend", item) },
  { label: "Upscale", icon: "upscale", run: (item) => start("upscale", item, {}) },
  { label: "Blend with\u2026", icon: "blend", run: (item) => ask("blend", item) },
];

/** @returns {Entry[]} */
const finding = (/** @type {Item} */ item) => [
  { label: "More like this", icon: "like", key: "m", run: () => visit({ terms: [pictureTerm(item.key)] }) },
  ...(isSearch(now()) ? [{ label: "Why this picture?", icon: "why", key: "w", run: () => ask("why", item) }] : []),
  ...(item.generated ? [] : [{ label: "Show in the timeline", icon: "calendar", key: "s", run: () => showInTimeline(item) }]),
  { label: "Copy the path", icon: "copy", key: "c", run: async () => toast((await copy(item.path)) ? "Path copied" : "The path could not be copied") },
];

/** @type {HTMLElement | null} */
let menu = null;

/** Show the menu of a picture beside what opened it. `making`: only what makes new pictures of it. */
export async function showMenu(/** @type {Item} */ item, /** @type {Element} */ anchor, { making = false } = {}) {
  const refusal = whyNot(await library().catch(() => ({})));
  menu?.remove();
  const own = piece("menu");
  menu = own;
  own.setAttribute("aria-label", making ? `Vary or edit ${name(item)}` : `Actions for ${name(item)}`);
  const entries = making ? [] : finding(item);
  own.append(...entries.map((entry) => button(entry, item, own)));
  if (entries.length) {
    const line = element("div", "", "menu-line");
    line.setAttribute("role", "separator");
    own.append(line);
  }
  if (refusal) {
    const told = button({ label: refusal, icon: "info", run: () => {} }, item, own);
    told.setAttribute("aria-disabled", "true");
    own.append(told);
  } else {
    own.append(...MAKING.map((entry) => button(entry, item, own)));
  }
  own.addEventListener("keydown", (event) => move(event, own));
  const restoreTo = anchor instanceof HTMLElement && anchor.tabIndex >= 0 ? anchor : anchor.closest(".tile")?.querySelector(".tile-link");
  let chosen = false;
  own.addEventListener("click", (event) => {
    if (event.target instanceof Element && event.target.closest('[role="menuitem"]:not([aria-disabled])')) chosen = true;
  }, { capture: true });
  own.addEventListener("toggle", (event) => {
    if (/** @type {ToggleEvent} */ (event).newState !== "closed") return;
    const inside = own.contains(document.activeElement) || document.activeElement === document.body;
    own.remove();
    anchor.removeAttribute("aria-expanded");
    if (inside && !chosen) /** @type {HTMLElement | null | undefined} */ (restoreTo)?.focus({ preventScroll: true });
  });
  // The viewer keeps the focus to what is inside of it.
  (anchor.closest(".pswp, main") ?? document.body).append(own);
  anchor.setAttribute("aria-expanded", "true");
  own.showPopover();
  place(own, anchor.getBoundingClientRect());
  items(own)[0].focus();
}

/** @returns {HTMLElement[]} */
const items = (/** @type {HTMLElement} */ own) => [...own.querySelectorAll('[role="menuitem"]')].map((one) => /** @type {HTMLElement} */ (one));

function button(/** @type {Entry} */ entry, /** @type {Item} */ item, /** @type {HTMLElement} */ own) {
  const made = element("button", "", "menu-item");
  made.type = "button";
  made.tabIndex = -1;
  made.setAttribute("role", "menuitem");
  made.append(icon(entry.icon), element("span", entry.label));
  if (entry.key) {
    const key = element("kbd", entry.key);
    key.setAttribute("aria-hidden", "true");
    made.append(key);
    made.setAttribute("aria-keyshortcuts", entry.key);
  }
  made.addEventListener("click", () => {
    if (made.ariaDisabled === "true") return;
    own.hidePopover();
    if (["m", "s"].includes(entry.key ?? "")) closeViewer(true);
    entry.run(item);
  });
  return made;
}

/** Beside the anchor, inside the window; a narrow window shows it at its lower edge, as the style sheet says. */
function place(/** @type {HTMLElement} */ own, /** @type {DOMRect} */ at) {
  const { offsetWidth: width, offsetHeight: height } = own;
  const left = at.left + width > innerWidth - 8 ? at.right - width : at.left;
  const top = at.bottom + 6 + height > innerHeight - 8 ? at.top - 6 - height : at.bottom + 6;
  own.style.setProperty("--left", `${Math.max(8, left)}px`);
  own.style.setProperty("--top", `${Math.max(8, Math.min(top, innerHeight - height - 8))}px`);
}

function move(/** @type {KeyboardEvent} */ event, /** @type {HTMLElement} */ own) {
  // Neither the page nor the viewer below may act on these keys.
  event.stopPropagation();
  const all = items(own);
  const at = all.indexOf(/** @type {HTMLElement} */ (document.activeElement));
  if (event.key === "Tab") return own.hidePopover();
  const letter = event.key.length === 1 && !event.ctrlKey && !event.metaKey && !event.altKey ? event.key.toLowerCase() : "";
  const next = {
    ArrowDown: (at + 1) % all.length, ArrowUp: (at - 1 + all.length) % all.length, Home: 0, End: all.length - 1,
  }[event.key] ?? (letter && letter !== " " ? byLetter(all, at, letter) : undefined);
  if (next === undefined || next < 0) return;
  event.preventDefault();
  all[next].focus();
}

/** The next entry that begins with a letter. */
function byLetter(/** @type {HTMLElement[]} */ all, /** @type {number} */ at, /** @type {string} */ letter) {
  const after = [...all.slice(at + 1), ...all.slice(0, at + 1)];
  const found = after.find((one) => one.textContent?.toLowerCase().startsWith(letter));
  return found ? all.indexOf(found) : -1;
}

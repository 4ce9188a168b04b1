// Everything by keyboard: shortcuts, and arrows that move between pictures.

import { showInTimeline } from "./details.js";
import { byId, copy, isTyping, toast } from "./dom.js";
import { toggleFilters } from "./filters.js";
import { pictureAt } from "./grid.js";
import { EMPTY, isSearch, now, pictureTerm, update, visit } from "./state.js";
import { showMenu } from "./operations/menu.js";
import { ask } from "./operations/start.js";
import { isOpen } from "./viewer.js";

/** The links of all tiles, in the order of the page. @returns {HTMLElement[]} */
const links = () => [...document.querySelectorAll(".tile-link")].filter((link) => !link.closest("[hidden]")).map((link) => /** @type {HTMLElement} */ (link));

/** Let one tile, the first or the last one used, be reached by Tab. */
export function makeReachable() {
  const all = links();
  if (all.length && !all.some((link) => link.tabIndex === 0)) all[0].tabIndex = 0;
}

/** Show the list of shortcuts. */
export const showHelp = () => byId("help").showModal();

/** Go to the start: the timeline without a search or filters. */
export const goToTimeline = () => update({ ...EMPTY });

/** Listen to keys; called once. */
export function prepareKeyboard() {
  addEventListener("keydown", (event) => {
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || isTyping(event)) return;
    if (isOpen() || document.querySelector("dialog[open]")) return;
    const picture = pictureAt(document.activeElement);
    const command = commands(picture)[event.key];
    if (command) {
      event.preventDefault();
      command();
    } else if (/^(Arrow|Home|End)/.test(event.key) && !event.shiftKey) {
      move(event);
    }
  });
  document.addEventListener("focusin", (event) => {
    const link = event.target instanceof Element && event.target.closest(".tile-link");
    if (!link) return;
    for (const other of document.querySelectorAll('.tile-link[tabindex="0"]')) /** @type {HTMLElement} */ (other).tabIndex = -1;
    /** @type {HTMLElement} */ (link).tabIndex = 0;
  });
  byId("help-button").addEventListener("click", showHelp);
}

/** @returns {Record<string, (() => void) | undefined>} */
function commands(/** @type {import("./items.js").Item | undefined} */ picture) {
  const photo = picture && !picture.generated ? picture : undefined;
  return {
    "/": () => byId("q").select(),
    "?": showHelp,
    f: () => toggleFilters(),
    p: () => byId("file").click(),
    t: goToTimeline,
    g: () => {
      const offer = byId("generate");
      if (offer && isSearch(now())) offer.click();
      else visit({ view: "generated" });
    },
    Escape: now().q || now().terms.length ? () => visit({}) : undefined,
    a: picture && (() => openMenu(picture)),
    ContextMenu: picture && (() => openMenu(picture)),
    w: picture && isSearch(now()) ? () => ask("why", picture) : undefined,
    m: picture && (() => visit({ terms: [pictureTerm(picture.key)] })),
    s: photo && (() => showInTimeline(photo)),
    c: picture && (async () => toast((await copy(picture.path)) ? "Path copied" : "The path could not be copied")),
  };
}

/** Open the menu of the picture in focus. */
function openMenu(/** @type {import("./items.js").Item} */ picture) {
  const tile = document.activeElement?.closest(".tile");
  if (tile) showMenu(picture, tile.querySelector(".tile-menu") ?? tile);
}

function move(/** @type {KeyboardEvent} */ event) {
  const all = links();
  const at = all.indexOf(/** @type {HTMLElement} */ (document.activeElement?.closest(".tile")?.querySelector(".tile-link") ?? null));
  // Without a picture in focus, the arrows scroll as usual, except that "right" begins to move between pictures.
  if (at < 0 && event.key !== "ArrowRight") return;
  const next = {
    ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: all.length - 1,
    ArrowDown: vertical(all, at, 1), ArrowUp: vertical(all, at, -1),
  }[event.key];
  if (next === undefined || !all[next]) return;
  event.preventDefault();
  all[next].focus({ preventScroll: true });
  all[next].closest(".tile")?.scrollIntoView({ block: "nearest" });
}

/** The picture in the row above or below whose middle is nearest. */
function vertical(/** @type {HTMLElement[]} */ all, /** @type {number} */ at, /** @type {1 | -1} */ step) {
  if (at < 0) return 0;
  const box = (/** @type {number} */ i) => all[i].getBoundingClientRect();
  const { top, left, width } = box(at);
  let i = at;
  while (all[i] && Math.abs(box(i).top - top) < 2) i += step;
  if (!all[i]) return at;
  const row = box(i).top;
  let best = i;
  const distance = (/** @type {number} */ j) => Math.abs(box(j).left + box(j).width / 2 - left - width / 2);
  for (; all[i] && Math.abs(box(i).top - row) < 2; i += step) if (distance(i) < distance(best)) best = i;
  return best;
}

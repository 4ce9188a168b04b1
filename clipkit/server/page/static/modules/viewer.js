// One picture at a time, over the page, with its details; goes on into pages that are not loaded yet.

import PhotoSwipe from "../vendor/photoswipe-5.4.4-MIT.esm.min.js";
import { Details } from "./details.js";
import { element, isTyping } from "./dom.js";
import { description, isWebFormat, thumbnail, thumbnails } from "./items.js";
import { now, update } from "./state.js";

/**
 * Pictures in an order; the last may still be a place for those of the next page.
 * @typedef {object} Collection
 * @property {number} length
 * @property {(index: number) => import("./items.js").Item | undefined} at
 * @property {(index: number) => Promise<void>} load
 * @property {(key: string) => number} indexOf
 * @property {boolean} [open]  whether there are more pictures than `length` tells
 */

const DETAILS_WIDTH = 340;
const NARROW = 900;
/** How many times larger than its pixels a small picture is shown. */
const LARGEST = 3;

const drawn = (/** @type {string} */ paths) =>
  `<svg class="icon" viewBox="0 0 20 20" aria-hidden="true">${paths}</svg>`;

/** @type {any} */
let open = null;

export const isOpen = () => Boolean(open);

/** Wait until the viewer is gone, if it is closing. @returns {Promise<void>} */
export const gone = () => new Promise((resolve) => (open?.isDestroying ? open.on("destroy", resolve) : resolve()));

/** Close the viewer because the state says so; `elsewhere`: the page goes on to another view. */
export function closeViewer(elsewhere = false) {
  if (!open || open.isDestroying) return;
  Object.assign(open, { byState: true, elsewhere });
  // While it opens, it cannot be closed.
  if (open.opener.isOpen) open.close();
  else open.on("openingAnimationEnd", () => open?.close());
}

/** Look at a picture of a collection. */
export function view(/** @type {Collection} */ collection, /** @type {number} */ index) {
  if (open) return;
  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  const details = new Details();
  /** @type {any} */
  const pswp = new PhotoSwipe({
    index,
    dataSource: [],
    loop: false,
    returnFocus: false,
    preload: [1, 3],
    bgOpacity: 1,
    showHideAnimationType: calm ? "none" : "zoom",
    showAnimationDuration: calm ? 0 : 220,
    hideAnimationDuration: calm ? 0 : 180,
    zoomAnimationDuration: calm ? false : 260,
    initialZoomLevel: fitted,
    secondaryZoomLevel: (/** @type {any} */ level) => Math.max(1, fitted(level)) * (fitted(level) >= 1 ? 2 : 1),
    maxZoomLevel: 4,
    paddingFn: (/** @type {{x: number, y: number}} */ size) => details.padding(size, NARROW, DETAILS_WIDTH),
    closeTitle: "Close (Esc)",
    zoomTitle: "Zoom (z)",
    arrowPrevTitle: "Previous",
    arrowNextTitle: "Next",
    errorMsg: "This file cannot be shown at the moment.",
    mainClass: "viewer",
    counter: false,
    closeSVG: drawn('<path d="m5 5 10 10m0-10L5 15"/>'),
    zoomSVG: drawn('<circle cx="9" cy="9" r="5.5"/><path d="m13 13 4 4M6.8 9h4.4"/><path class="pswp__zoom-icn-bar-v" d="M9 6.8v4.4"/>'),
    arrowPrevSVG: drawn('<path d="m12.5 4-6 6 6 6"/>'),
    arrowNextSVG: drawn('<path d="m7.5 4 6 6-6 6"/>'),
  });
  pswp.addFilter("numItems", () => collection.length);
  pswp.addFilter("itemData", (/** @type {any} */ _, /** @type {number} */ at) => slide(collection.at(at)));
  pswp.addFilter("thumbEl", (/** @type {any} */ _, /** @type {any} */ data) => data?.key && thumbOf(data.key));

  /** Ask for what is about to be needed, and show it where its place was. */
  const prepare = async (/** @type {number} */ at) => {
    if (at < 0 || at >= collection.length || collection.at(at)) return;
    await collection.load(at).catch(() => {});
    if (open !== pswp) return;
    // A new page may bring pictures that come before the one on show.
    const shown = current ? collection.indexOf(current) : pswp.currIndex;
    for (let i = Math.max(0, at - 2); i <= at + 2 && i < collection.length; i++) pswp.refreshSlideContent(i);
    if (shown >= 0 && shown !== pswp.currIndex) pswp.goTo(shown);
    changed();
  };
  const counter = element("div", "", "pswp__counter");
  /** The picture on show; "" while it is being loaded. */
  let current = "";
  const changed = () => {
    if (pswp.byState || pswp.isDestroying) return; // the state is already that of what comes next
    const item = collection.at(pswp.currIndex);
    current = item?.key ?? "";
    const [previous, next] = ["prev", "next"].map((way) => pswp.element?.querySelector(`.pswp__button--arrow--${way}`));
    if (previous) previous.disabled = pswp.currIndex <= 0;
    if (next) next.disabled = pswp.currIndex >= collection.length - 1;
    counter.textContent = `${pswp.currIndex + 1} / ${collection.open ? `${collection.length - 1}+` : collection.length}`;
    if (item) {
      details.show(item);
      if (now().open !== item.key) update({ open: item.key }, now().open ? { push: false } : { keep: { viewer: true } });
    }
  };

  pswp.on("uiRegister", () => {
    pswp.ui.registerElement({ name: "details", appendTo: "root", order: 20, onInit: (/** @type {HTMLElement} */ box) => box.append(details.root) });
    pswp.ui.registerElement({ name: "position", order: 5, onInit: (/** @type {HTMLElement} */ box) => box.append(counter) });
    pswp.ui.registerElement({
      name: "info", ariaLabel: "Details (i)", title: "Details (i)", order: 9, isButton: true,
      html: '<svg class="icon" aria-hidden="true"><use href="#icon-info"/></svg>',
      onClick: () => toggle(),
    });
  });
  const toggle = () => {
    details.toggle();
    pswp.element.classList.toggle("has-details", !details.hidden);
    pswp.updateSize(true);
  };
  /** @type {Record<string, () => void>} */
  const commands = {
    i: toggle, m: () => details.more(), s: () => details.showInTimeline(), c: () => details.copyPath(), w: () => details.why(), a: () => details.menu(),
  };
  const plain = (/** @type {KeyboardEvent} */ key) => !(isTyping(key) || key.ctrlKey || key.metaKey || key.altKey);
  pswp.on("keydown", (/** @type {any} */ event) => {
    const key = event.originalEvent;
    if (!plain(key) || !commands[key.key]) return;
    event.preventDefault();
    key.preventDefault();
    commands[key.key]();
  });
  // PhotoSwipe listens to keys only once it is open; what is pressed before is done then.
  const moves = { ArrowRight: () => pswp.next(), ArrowLeft: () => pswp.prev(), Escape: () => pswp.close() };
  /** @type {Record<string, () => void>} */
  const allKeys = { ...commands, ...moves };
  /** @type {(() => void)[]} */
  const pressed = [];
  const whileOpening = (/** @type {KeyboardEvent} */ event) => {
    if (pswp.opener.isOpen || !plain(event) || !allKeys[event.key] || document.querySelector("dialog[open]")) return;
    event.preventDefault();
    pressed.push(allKeys[event.key]);
  };
  addEventListener("keydown", whileOpening, { capture: true });
  pswp.on("openingAnimationEnd", () => pressed.splice(0).forEach((command) => command()));
  pswp.on("change", () => {
    changed();
    for (const step of [0, 1, -1, 3, 8]) prepare(pswp.currIndex + step);
  });
  pswp.on("close", () => {
    if (pswp.byState || !now().open) return;
    if (history.state?.viewer) history.back();
    else update({ open: "" }, { push: false });
  });
  pswp.on("destroy", () => {
    const item = collection.at(pswp.currIndex);
    open = null;
    removeEventListener("keydown", whileOpening, { capture: true });
    const link = item && tileOf(item.key)?.querySelector(".tile-link");
    if (link && !pswp.elsewhere) /** @type {HTMLElement} */ (link).focus();
  });
  pswp.on("afterInit", () => {
    pswp.element.setAttribute("aria-label", "Picture viewer");
    pswp.element.classList.add("has-details");
    changed();
  });
  open = pswp;
  details.onLeave = () => closeViewer(true);
  pswp.init();
  for (const step of [0, 1, 3, 8]) prepare(index + step);
}

/** As large as fits beside the details; small pictures grow, but only so far that they stay recognisable. */
const fitted = (/** @type {any} */ level) =>
  Math.min(LARGEST, level.panAreaSize.x / level.elementSize.x, level.panAreaSize.y / level.elementSize.y);

function slide(/** @type {import("./items.js").Item | undefined} */ item) {
  if (!item) return { html: '<p class="viewer-waiting">Loading</p>' };
  const small = thumbnails(item, [320, 640, 1280, 2560]);
  const original = isWebFormat(item) && !item.away ? `, ${item.original} ${item.width}w` : "";
  return {
    key: item.key, src: thumbnail(item, 1280), srcset: small + original, msrc: thumbnail(item, 320),
    width: item.width, height: item.height, alt: description(item),
  };
}

const tileOf = (/** @type {string} */ key) => document.querySelector(`.tile[data-key="${CSS.escape(key)}"]`);
const thumbOf = (/** @type {string} */ key) => tileOf(key)?.querySelector("img") ?? null;

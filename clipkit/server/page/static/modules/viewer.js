// One picture at a time, over the page, with its details; goes on into pages that are not loaded yet.

import PhotoSwipe from "../vendor/photoswipe-5.4.4-MIT.esm.min.js";
import { Details } from "./details.js";
import { isTyping } from "./dom.js";
import { isWebFormat, name, thumbnail, thumbnails } from "./items.js";
import { now, update } from "./state.js";

/**
 * Pictures in an order; the last may still be a place for those of the next page.
 * @typedef {object} Collection
 * @property {number} length
 * @property {(index: number) => import("./items.js").Item | undefined} at
 * @property {(index: number) => Promise<void>} load
 * @property {(key: string) => number} indexOf
 */

const DETAILS_WIDTH = 340;
const NARROW = 760;
/** How many times larger than its pixels a small picture is shown. */
const LARGEST = 3;

/** @type {any} */
let open = null;

export const isOpen = () => Boolean(open);

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
  });
  pswp.addFilter("numItems", () => collection.length);
  pswp.addFilter("itemData", (/** @type {any} */ _, /** @type {number} */ at) => slide(collection.at(at)));
  pswp.addFilter("thumbEl", (/** @type {any} */ _, /** @type {any} */ data) => data?.key && thumbOf(data.key));

  /** Ask for what is about to be needed, and show it where its place was. */
  const prepare = async (/** @type {number} */ at) => {
    if (at < 0 || at >= collection.length || collection.at(at)) return;
    await collection.load(at).catch(() => {});
    if (!open) return;
    // A new page may bring pictures that come before the one on show.
    const shown = current ? collection.indexOf(current) : pswp.currIndex;
    for (let i = Math.max(0, at - 2); i <= at + 2 && i < collection.length; i++) pswp.refreshSlideContent(i);
    if (shown >= 0 && shown !== pswp.currIndex) pswp.goTo(shown);
    changed();
  };
  /** The picture on show; "" while it is being loaded. */
  let current = "";
  const changed = () => {
    const item = collection.at(pswp.currIndex);
    current = item?.key ?? "";
    const [previous, next] = ["prev", "next"].map((way) => pswp.element?.querySelector(`.pswp__button--arrow--${way}`));
    if (previous) previous.disabled = pswp.currIndex <= 0;
    if (next) next.disabled = pswp.currIndex >= collection.length - 1;
    if (item) {
      details.show(item);
      if (now().open !== item.key) update({ open: item.key }, { push: now().open === "", viewer: now().open === "" });
    }
  };

  pswp.on("uiRegister", () => {
    pswp.ui.registerElement({ name: "details", appendTo: "root", order: 20, onInit: (/** @type {HTMLElement} */ box) => box.append(details.root) });
    pswp.ui.registerElement({
      name: "info", ariaLabel: "Details (i)", title: "Details (i)", order: 9, isButton: true,
      html: '<svg class="icon" aria-hidden="true"><use href="#icon-info"/></svg>',
      onClick: () => toggle(),
    });
  });
  const toggle = () => {
    details.toggle();
    pswp.updateSize(true);
  };
  /** @type {Record<string, () => void>} */
  const commands = { i: toggle, m: () => details.more(), s: () => details.showInTimeline(), c: () => details.copyPath() };
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
    if (pswp.opener.isOpen || !plain(event) || !allKeys[event.key]) return;
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
    width: item.width, height: item.height, alt: `${item.marked ? "Generated picture " : ""}${name(item)}`,
  };
}

const tileOf = (/** @type {string} */ key) => document.querySelector(`.tile[data-key="${CSS.escape(key)}"]`);
const thumbOf = (/** @type {string} */ key) => tileOf(key)?.querySelector("img") ?? null;

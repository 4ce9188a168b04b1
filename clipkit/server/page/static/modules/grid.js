// Grids of tiles, in blocks that the browser may skip while they are out of sight.

import { badge, description, name, percent, thumbnail, thumbnails, word } from "./items.js";
import { justify, shape } from "./justify.js";
import { piece } from "./dom.js";

/** @typedef {import("./items.js").Item} Item */

/** From this many tiles on, a block is full and the next picture begins a new one. */
const BLOCK = 60;

/** @type {WeakMap<Element, Item>} */
const itemOf = new WeakMap();

/** The picture of a tile, or of an element inside one. */
export const pictureAt = (/** @type {Element | null} */ element) => {
  const tile = element?.closest(".tile");
  return tile ? itemOf.get(tile) : undefined;
};

/** @returns {HTMLElement} */
export function tile(/** @type {Item} */ item, { caption = false } = {}) {
  const element = piece("tile");
  const link = /** @type {HTMLAnchorElement} */ (element.querySelector(".tile-link"));
  const image = /** @type {HTMLImageElement} */ (element.querySelector("img"));
  element.dataset.key = item.key;
  link.href = item.original;
  link.tabIndex = -1;
  element.style.setProperty("--shape", String(shape(item)));
  image.alt = description(item);
  // Answers of the API come first: a browser opens few connections to one host.
  image.fetchPriority = "low";
  image.sizes = "auto, 320px";
  image.srcset = thumbnails(item, [160, 320, 640]);
  image.src = thumbnail(item, 320);
  image.addEventListener("load", () => element.classList.add("is-loaded"), { once: true });
  image.addEventListener("error", () => element.classList.add("is-broken"), { once: true });
  const mark = /** @type {HTMLElement} */ (element.querySelector(".badge"));
  mark.hidden = !item.marked;
  mark.textContent = badge(item);
  element.classList.toggle("is-generated", item.marked);
  for (const [button, label] of [[".tile-more", "More like"], [".tile-menu", "Actions for"]]) {
    /** @type {HTMLElement} */ (element.querySelector(`${button} .unseen`)).textContent = `${label} ${name(item)}`;
  }
  if (caption && item.confidence !== undefined) {
    const line = /** @type {HTMLElement} */ (element.querySelector(".tile-caption"));
    line.hidden = false;
    /** @type {HTMLElement} */ (line.querySelector(".tile-word")).textContent = word(item);
    /** @type {HTMLElement} */ (line.querySelector(".tile-number")).textContent = percent(item.confidence);
  }
  itemOf.set(element, item);
  return element;
}

/** A grid that grows block by block. */
export class Grid {
  /** @param {HTMLElement} parent @param {{caption?: boolean, label: string}} options */
  constructor(parent, { caption = false, label }) {
    this.parent = parent;
    this.caption = caption;
    this.label = label;
    /** @type {{element: HTMLElement, shapes: number[]}[]} */
    this.blocks = [];
    this.resizing = new ResizeObserver(() => this.layout());
    this.resizing.observe(parent);
  }

  /** Add pictures at the end. */
  add(/** @type {Item[]} */ items) {
    for (const item of items) {
      let block = this.blocks.at(-1);
      if (!block || block.shapes.length >= BLOCK) {
        block = { element: list(this.label), shapes: [] };
        this.blocks.push(block);
        this.parent.append(block.element);
      }
      block.shapes.push(shape(item));
      block.element.append(tile(item, { caption: this.caption }));
    }
    this.layout();
  }

  layout() {
    this.blocks.forEach((block, i) => justify(block.element, block.shapes, i < this.blocks.length - 1));
  }

  close() {
    this.resizing.disconnect();
  }
}

/** An empty list of tiles. */
export function list(/** @type {string} */ label) {
  const element = document.createElement("ul");
  element.className = "grid";
  element.setAttribute("aria-label", label);
  return element;
}

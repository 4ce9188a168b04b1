// The whole library by months, newest first. Each month is split into blocks, which load when they come near and are
// emptied when they are far away, so that a library of a million pictures costs no more than what is in sight.

import { get, isAbort } from "./api.js";
import { announce, element, piece, scrolling } from "./dom.js";
import { list, tile } from "./grid.js";
import { count, libraryItem, monthName, nextMonth } from "./items.js";
import { estimatedHeight, justify, shape } from "./justify.js";
import { EMPTY, FILTERS, update } from "./state.js";

/** @typedef {import("./items.js").Item} Item */

const BLOCK = 80;
const NEAR = "1200px 0px";
const FAR = "8000px 0px";

/**
 * Some pictures of a month, in the order of the timeline.
 * @typedef {object} Block
 * @property {string | null} month
 * @property {number} start  index of the first picture among all
 * @property {number} offset  the same within the month
 * @property {number} size
 * @property {boolean} last  whether it ends the month
 * @property {HTMLElement} element
 * @property {Item[] | null} items
 * @property {AbortController | null} request
 * @property {Promise<void> | null} loading
 */

export class Timeline {
  /** @param {import("./state.js").State} state @param {AbortSignal} signal */
  constructor(state, signal) {
    this.state = state;
    this.signal = signal;
    this.filters = Object.fromEntries(FILTERS.filter((name) => state[name]).map((name) => [name, state[name]]));
    /** @type {Block[]} */
    this.blocks = [];
    this.length = 0;
    /** @type {Map<Element, Block>} */
    this.blockOf = new Map();
  }

  async show(/** @type {HTMLElement} */ root) {
    const { months, undated } = await get("facets", this.filters, this.signal);
    months.sort((/** @type {any} */ a, /** @type {any} */ b) => b.month.localeCompare(a.month));
    if (undated) months.push({ month: null, count: undated });
    root.replaceChildren();
    if (!months.length) return this.showNothing(root);
    this.near = new IntersectionObserver((entries) => entries.forEach((entry) => this.moved(entry)), { rootMargin: NEAR });
    this.far = new IntersectionObserver((entries) => entries.forEach((entry) => entry.isIntersecting || this.empty(entry.target)), {
      rootMargin: FAR,
    });
    const width = root.clientWidth;
    const all = document.createDocumentFragment();
    for (const { month, count: pictures } of months) all.append(this.month(month, pictures, width));
    root.append(all);
    for (const block of this.blocks) {
      this.near.observe(block.element);
      this.far.observe(block.element);
    }
    let before = width;
    this.resizing = new ResizeObserver(() => {
      if (root.clientWidth !== before) this.layout((before = root.clientWidth));
    });
    this.resizing.observe(root);
    announce(count(this.length, "picture"));
    await this.goTo(this.state);
  }

  showNothing(/** @type {HTMLElement} */ root) {
    const filtered = Object.keys(this.filters).length > 0;
    const notice = element("div", "", "notice");
    notice.append(element("h2", filtered ? "No picture passes these filters" : "This library has no pictures yet"));
    if (filtered) {
      const clear = element("button", "Clear filters", "quiet");
      clear.addEventListener("click", () => update({ ...EMPTY }));
      notice.append(clear);
    } else {
      const line = element("p", "Add a folder: ");
      line.append(element("code", "clipkit index FOLDER"));
      notice.append(line);
    }
    root.append(notice);
    announce("No pictures");
  }

  month(/** @type {string | null} */ month, /** @type {number} */ pictures, /** @type {number} */ width) {
    const section = piece("section");
    section.classList.add("month");
    section.dataset.month = month ?? "";
    /** @type {any} */ (section.querySelector("h2")).textContent = monthName(month);
    /** @type {any} */ (section.querySelector(".section-count")).textContent = pictures.toLocaleString("en-GB");
    const blocks = Math.ceil(pictures / BLOCK);
    const size = Math.ceil(pictures / blocks);
    for (let offset = 0; offset < pictures; offset += size) {
      const grid = list(monthName(month));
      const here = Math.min(size, pictures - offset);
      grid.style.minHeight = `${estimatedHeight(here, width)}px`;
      /** @type {Block} */
      const block = {
        month, start: this.length, offset, size: here, last: offset + here >= pictures, element: grid,
        items: null, request: null, loading: null,
      };
      this.blocks.push(block);
      this.blockOf.set(grid, block);
      this.length += here;
      section.querySelector(".section-body")?.append(grid);
    }
    return section;
  }

  moved(/** @type {IntersectionObserverEntry} */ entry) {
    const block = this.blockOf.get(entry.target);
    if (!block) return;
    if (entry.isIntersecting) this.fill(block).catch(() => {});
    else block.request?.abort();
  }

  /** Load a block's pictures and show them. */
  async fill(/** @type {Block} */ block) {
    block.loading ??= this.request(block).finally(() => (block.loading = null));
    await block.loading;
    if (this.signal.aborted || !block.items || block.element.childElementCount) return;
    block.element.append(...block.items.map((item) => tile(item)));
    block.element.style.minHeight = "";
    justify(block.element, block.items.map(shape), !block.last);
  }

  async request(/** @type {Block} */ block) {
    if (block.items) return;
    const request = new AbortController();
    block.request = request;
    const parameters = new URLSearchParams(this.filters);
    if (block.month) {
      const [first, end] = [`${block.month}-01`, `${nextMonth(block.month)}-01`];
      if (!parameters.get("after") || /** @type {string} */ (parameters.get("after")) < first) parameters.set("after", first);
      if (!parameters.get("before") || /** @type {string} */ (parameters.get("before")) > end) parameters.set("before", end);
    }
    parameters.set("order", "taken");
    // Those without a date come after all others, and no filter by date lets them pass.
    parameters.set("offset", String(block.month ? block.offset : block.start));
    parameters.set("limit", String(block.size));
    try {
      const page = await get("images", parameters, AbortSignal.any([request.signal, this.signal]));
      block.items = page.images.map(libraryItem);
    } catch (error) {
      if (!isAbort(error)) throw error;
    } finally {
      block.request = null;
    }
  }

  /** Drop what is far away, but keep its height. */
  empty(/** @type {Element} */ grid) {
    const block = this.blockOf.get(grid);
    if (!block?.items || block.element.contains(document.activeElement)) return;
    block.element.style.minHeight = `${block.element.offsetHeight}px`;
    block.element.replaceChildren();
    block.items = null;
  }

  layout(/** @type {number} */ width) {
    for (const block of this.blocks) {
      if (block.element.childElementCount && block.items) justify(block.element, block.items.map(shape), !block.last);
      else block.element.style.minHeight = `${estimatedHeight(block.size, width)}px`;
    }
  }

  /** Scroll to a month, and to a picture in it if the state names one. */
  async goTo(/** @type {import("./state.js").State} */ { at, show }) {
    if (!at && !show) return;
    const month = at.slice(0, 7) || null;
    const section = [...document.querySelectorAll(".month")].find((one) => /** @type {HTMLElement} */ (one).dataset.month === (month ?? ""));
    section?.scrollIntoView({ block: "start", behavior: "auto" });
    if (!show) return;
    for (const block of this.blocks.filter((one) => one.month === month)) {
      await this.fill(block).catch(() => {});
      const index = block.items?.findIndex((item) => item.key === show) ?? -1;
      const found = index >= 0 ? block.element.children[index] : null;
      if (!found) continue;
      found.scrollIntoView({ block: "center", behavior: scrolling() });
      /** @type {HTMLElement} */ (found.querySelector(".tile-link")).focus({ preventScroll: true });
      found.classList.add("is-shown");
      return;
    }
  }

  // --- what the viewer goes through ---

  at(/** @type {number} */ index) {
    const block = this.block(index);
    return block?.items?.[index - block.start];
  }

  load(/** @type {number} */ index) {
    const block = this.block(index);
    return block ? this.fill(block) : Promise.resolve();
  }

  indexOf(/** @type {string} */ key) {
    for (const block of this.blocks) {
      const index = block.items?.findIndex((item) => item.key === key) ?? -1;
      if (index >= 0) return block.start + index;
    }
    return -1;
  }

  block(/** @type {number} */ index) {
    let [low, high] = [0, this.blocks.length - 1];
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.blocks[middle].start <= index) low = middle;
      else high = middle - 1;
    }
    return this.blocks[low];
  }

  close() {
    this.near?.disconnect();
    this.far?.disconnect();
    this.resizing?.disconnect();
  }
}

// All pictures that this library has generated, newest first.

import { get } from "./api.js";
import { announce, element, piece } from "./dom.js";
import { Grid } from "./grid.js";
import { count, generatedItem } from "./items.js";

export class GeneratedView {
  constructor(/** @type {AbortSignal} */ signal) {
    this.signal = signal;
    /** @type {import("./items.js").Item[]} */
    this.items = [];
  }

  async show(/** @type {HTMLElement} */ root) {
    const { generated } = await get("generated", {}, this.signal);
    this.items = generated.map(generatedItem);
    root.replaceChildren();
    if (!this.items.length) {
      const notice = element("div", "", "notice");
      notice.append(element("h2", "Nothing has been generated yet"), element("p", "A search that finds nothing offers to."));
      root.append(notice);
      return;
    }
    const section = piece("section");
    section.classList.add("is-all");
    /** @type {any} */ (section.querySelector("h2")).textContent = "Generated";
    /** @type {any} */ (section.querySelector(".section-count")).textContent = String(this.items.length);
    const note = /** @type {HTMLElement} */ (section.querySelector(".section-note"));
    note.textContent = "Made by a model for searches that found nothing. These are no photos of yours.";
    note.hidden = false;
    root.append(section);
    this.grid = new Grid(/** @type {HTMLElement} */ (section.querySelector(".section-body")), { label: "Generated" });
    this.grid.add(this.items);
    announce(count(this.items.length, "generated picture"));
  }

  get length() {
    return this.items.length;
  }

  at(/** @type {number} */ index) {
    return this.items[index];
  }

  load() {
    return Promise.resolve();
  }

  indexOf(/** @type {string} */ key) {
    return this.items.findIndex((item) => item.key === key);
  }

  close() {
    this.grid?.close();
  }
}

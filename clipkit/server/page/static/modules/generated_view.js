// All pictures that this library has generated, newest first; above them the run of an operation, if the state has one.

import { get } from "./api.js";
import { announce, element, piece } from "./dom.js";
import { Grid } from "./grid.js";
import { count, generatedItem } from "./items.js";
import { Run } from "./run.js";

export class GeneratedView {
  /** @param {import("./state.js").State} state @param {AbortSignal} signal */
  constructor(state, signal) {
    this.signal = signal;
    /** @type {import("./items.js").Item[]} */
    this.others = [];
    this.run = state.job || state.made.length ? new Run(state) : null;
  }

  /** Whether it shows this state already: what a run makes changes the state, but not the view. */
  shows(/** @type {import("./state.js").State} */ state) {
    return state.view === "generated" && (this.run ? this.run.shows(state) : !state.job && !state.made.length);
  }

  async show(/** @type {HTMLElement} */ root) {
    const { generated } = await get("generated", {}, this.signal);
    const items = generated.map(generatedItem);
    this.others = items.filter((/** @type {import("./items.js").Item} */ one) => !this.run?.made.includes(String(one.id)));
    root.replaceChildren();
    if (this.run) {
      root.append(this.run.root);
      this.run.begin(items);
    }
    if (!this.others.length) {
      if (!this.run) root.append(nothing());
      return;
    }
    const section = piece("section");
    section.classList.add("is-all");
    const part = (/** @type {string} */ selector) => /** @type {HTMLElement} */ (section.querySelector(selector));
    part("h2").textContent = this.run ? "Generated before" : "Generated";
    part(".section-count").textContent = String(this.others.length);
    part(".section-note").textContent = "Made by a model, wholly or in part.";
    part(".section-note").hidden = false;
    root.append(section);
    this.grid = new Grid(part(".section-body"), { label: "Generated" });
    this.grid.add(this.others);
    announce(count(items.length, "generated picture"));
  }

  // --- what the viewer goes through ---

  get order() {
    return [...(this.run?.items ?? []), ...this.others];
  }

  get length() {
    return this.order.length;
  }

  at(/** @type {number} */ index) {
    return this.order[index];
  }

  load() {
    return Promise.resolve();
  }

  indexOf(/** @type {string} */ key) {
    return this.order.findIndex((item) => item.key === key);
  }

  close() {
    this.grid?.close();
    this.run?.close();
  }
}

function nothing() {
  const notice = element("div", "", "notice");
  notice.append(
    element("h2", "Nothing has been generated yet"),
    element("p", "A search that finds nothing offers to, and the menu of a picture has what can be made of it."),
  );
  return notice;
}

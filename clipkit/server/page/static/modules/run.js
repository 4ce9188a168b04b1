// The run of an operation on a picture: what it is made of, its progress, and what it has made so far.

import { element, piece } from "./dom.js";
import { Grid } from "./grid.js";
import { Job } from "./job.js";
import { name, thumbnail } from "./items.js";
import { picture } from "./library.js";
import { now, update } from "./state.js";
import { run } from "./operations/start.js";

/** @typedef {import("./items.js").Item} Item */

const GENERATED = "Made by a model. These are no photos of yours.";
const EDITED = "Changed by a model. What was not repainted is the picture\u2019s own, pixel by pixel.";
/** @type {Record<string, [string, string]>} */
const WORDS = {
  vary: ["Variations", GENERATED],
  restyle: ["Restyled", GENERATED],
  blend: ["Blended", GENERATED],
  edit: ["Edited", EDITED],
  extend: ["Extended", EDITED],
  upscale: ["Upscaled", "Enlarged by a model, which invents the detail that the picture does not have."],
};

export class Run {
  constructor(/** @type {import("./state.js").State} */ state) {
    this.from = state.from;
    this.made = [...state.made];
    /** @type {Item[]} */
    this.items = [];
    this.root = piece("run");
    this.job = new Job({ found: (item) => this.found(item), busy: (busy, focused) => this.setBusy(busy, focused) });
    this.job.id = state.job;
    /** What was asked for, if this entry of the history remembers it. @type {any} */
    this.request = history.state?.request;
  }

  /** @returns {any} */
  part(/** @type {string} */ selector) {
    return this.root.querySelector(selector);
  }

  shows(/** @type {import("./state.js").State} */ state) {
    return state.from === this.from && (!state.job || state.job === this.job.id) && state.made.join() === this.made.join();
  }

  /** Show what was made before the page was loaded, and follow the job if it is still at work. */
  begin(/** @type {Item[]} */ known) {
    this.grid = new Grid(this.part(".run-made"), { label: "Made now" });
    this.part(".run-made").before(this.job.root);
    const found = this.made.flatMap((id) => known.find((item) => String(item.id) === id) ?? []);
    this.items.push(...found);
    this.grid.add(found);
    this.entitle(this.request?.operation ?? found[0]?.raw.operation ?? "");
    if (this.from) this.showSource();
    this.setBusy(Boolean(now().job));
    this.part(".run-again").addEventListener("submit", (/** @type {Event} */ event) => this.again(event));
    // After a dialog has gone, the keyboard goes on from here.
    const title = this.part("h2");
    title.tabIndex = -1;
    if (document.activeElement === document.body) title.focus({ preventScroll: true });
    this.job.resume(now().job).then((kind) => {
      if (kind) this.entitle(kind);
      else if (!this.items.length) this.job.say("The server does not know this job any more.");
    });
  }

  entitle(/** @type {string} */ operation) {
    const [title, note] = WORDS[operation] ?? ["Generated", GENERATED];
    this.part("h2").textContent = title;
    this.part(".run-note").textContent = note;
  }

  async showSource() {
    const item = await picture(this.from).catch(() => null);
    if (!item) return;
    const link = this.part(".run-source");
    link.hidden = false;
    link.href = item.original;
    link.setAttribute("aria-label", `Made from ${name(item)}`);
    link.querySelector("img").src = thumbnail(item, 320);
    link.addEventListener("click", (/** @type {MouseEvent} */ event) => {
      if (event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      update({ open: item.key }, { keep: { viewer: true } });
    });
  }

  setBusy(/** @type {boolean} */ busy, focused = false) {
    this.part(".run-again").hidden = busy || !this.request || this.request.operation === "upscale";
    this.part(".run-strength").hidden = this.request?.operation !== "vary";
    this.root.classList.toggle("is-busy", busy);
    if (focused) this.part("h2").focus();
    if (busy && !this.waiting) this.waiting = this.part(".run-made").appendChild(element("p", "", "run-waiting"));
    if (!busy || this.items.length) this.waiting?.remove();
  }

  found(/** @type {Item} */ item) {
    if (this.items.some((other) => other.key === item.key)) return;
    this.items.push(item);
    this.waiting?.remove();
    this.grid?.add([item]);
    if (this.made.includes(String(item.id))) return;
    this.made.push(String(item.id));
    update({ made: [...this.made] }, { push: false });
  }

  /** The same once more, from other noise. */
  async again(/** @type {Event} */ event) {
    event.preventDefault();
    const strength = Number(/** @type {any} */ (event.target).elements.strength.value);
    const body = this.request.operation === "vary" ? { ...this.request.body, strength } : this.request.body;
    try {
      await run({ ...this.request, body });
    } catch (error) {
      this.job.say(/** @type {Error} */ (error).message);
    }
  }

  close() {
    this.grid?.close();
    this.job.close();
  }
}

// What the library lacks: why nothing matches, and the generation of a picture with progress and cancel.

import { sentence } from "./api.js";
import { element, piece } from "./dom.js";
import { Job } from "./job.js";
import { library } from "./library.js";
import { now } from "./state.js";

export class Missing {
  /**
   * @param {ParentNode & Node} parent
   * @param {string[]} notes  why nothing matches
   * @param {{missing: boolean, found: (item: import("./items.js").Item) => void}} options
   */
  constructor(parent, notes, { missing, found }) {
    this.root = piece("missing");
    this.root.classList.toggle("is-aside", !missing);
    if (!missing) this.part("h2").textContent = "Not what you meant?";
    const why = this.part(".missing-why");
    for (const note of notes) {
      const line = element("li");
      // The title says already that nothing matches.
      const reason = sentence(note.replace(/^nothing matches: /, ""));
      line.textContent = `${reason}${/[.!?]$/.test(reason) ? "" : "."}`;
      why.append(line);
    }
    why.hidden = notes.length === 0;
    this.job = new Job({ found, busy: (busy, focused) => this.setBusy(busy, focused) });
    this.root.append(this.job.root);
    this.part("#generate").addEventListener("click", () => this.start());
    parent.append(this.root);
    library().then(({ generation }) => generation?.available === false && this.refuse(generation.reason), () => {});
  }

  /** Say why this library cannot generate, instead of offering it. */
  refuse(/** @type {string} */ reason) {
    this.part("#generate").disabled = true;
    this.part(".missing-offer").hidden = true;
    const line = element("p", `${sentence(reason)}.`, "missing-refusal");
    this.part(".missing-offer").after(line);
  }

  /** @returns {any} */
  part(/** @type {string} */ selector) {
    return this.root.querySelector(selector);
  }

  setBusy(/** @type {boolean} */ busy, /** @type {boolean} */ focused) {
    const pressed = document.activeElement === this.part("#generate");
    this.root.classList.toggle("is-busy", busy);
    this.part(".missing-offer").hidden = busy || this.part("#generate").disabled;
    // What had the focus has gone; the keyboard goes on from what took its place.
    if (busy && pressed) this.job.part(".job-cancel").focus();
    if (focused) this.part("#generate").focus();
  }

  start() {
    return this.job.start("generate", { ...query(now()), n: Number(this.part("#generate-count").value) });
  }

  /** Go on showing a job that was started before the page was loaded. */
  resume(/** @type {string} */ job) {
    return this.job.resume(job);
  }

  /** Stop listening; the job goes on. */
  close() {
    this.job.close();
  }
}

/** The query of a state as `/api/generate` takes it: the weights are in the order of text, also, like and not. */
function query(/** @type {import("./state.js").State} */ state) {
  const words = state.q.trim() ? [{ value: state.q.trim(), weight: state.weight }] : [];
  const some = (/** @type {string} */ kind, /** @type {1 | -1} */ sign) => state.terms.filter((term) => term.kind === kind && term.sign === sign);
  const texts = [...words, ...some("text", 1)];
  const like = some("picture", 1);
  const avoided = [...some("text", -1), ...some("picture", -1)];
  const regions = like.map((term) => (term.region ? term.region.split(",").map(Number) : null));
  return {
    text: texts[0]?.value ?? "",
    also: texts.slice(1).map((term) => term.value),
    like: like.map((term) => term.value),
    not: avoided.map((term) => (term.kind === "text" || term.value.includes(":") ? term.value : `id:${term.value}`)),
    weights: [...texts, ...like, ...avoided].map((term) => term.weight),
    ...(regions.some(Boolean) ? { regions } : {}),
  };
}

// What the library lacks: why nothing matches, and the generation of a picture with progress and cancel.

import { get, isAbort, send, sentence } from "./api.js";
import { announce, element, piece } from "./dom.js";
import { generatedItem } from "./items.js";
import { library } from "./library.js";
import { now, update } from "./state.js";

export class Missing {
  /**
   * @param {ParentNode & Node} parent
   * @param {string[]} notes  why nothing matches
   * @param {{missing: boolean, found: (item: import("./items.js").Item) => void}} options
   */
  constructor(parent, notes, { missing, found }) {
    this.found = found;
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
    this.part("#generate").addEventListener("click", () => this.start());
    this.part("#cancel").addEventListener("click", () => this.cancel());
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

  /** Start a job, unless one is running. */
  async start() {
    if (this.busy) return;
    this.busy = true;
    this.say("");
    this.progress({ stage: "Starting" });
    try {
      const { job } = await send("POST", "generate", { ...query(now()), n: Number(this.part("#generate-count").value) });
      update({ job: String(job) }, { push: false });
      this.follow(String(job));
    } catch (error) {
      this.finish(/** @type {Error} */ (error).message);
    }
  }

  /** Go on showing a job that was started before the page was loaded. */
  async resume(/** @type {string} */ job) {
    if (!job) return;
    try {
      await get(`jobs/${encodeURIComponent(job)}`);
      this.follow(job);
    } catch (error) {
      if (!isAbort(error)) this.finish("");
    }
  }

  follow(/** @type {string} */ job) {
    this.busy = true;
    this.job = job;
    this.progress({ stage: "Starting" });
    const events = new EventSource(`api/jobs/${encodeURIComponent(job)}/events`);
    this.events = events;
    const on = (/** @type {string} */ name, /** @type {(data: any) => void} */ listener) =>
      events.addEventListener(name, (event) => listener(JSON.parse(/** @type {MessageEvent} */ (event).data || "{}")));
    on("progress", (data) => this.progress(data));
    on("picture", (data) => this.found(generatedItem(data)));
    on("done", () => this.finish(""));
    on("cancelled", () => this.finish("Cancelled."));
    on("failed", (problem) => this.finish(sentence(problem.detail || problem.title || "the picture could not be generated")));
    events.onerror = () => {
      // While it is CONNECTING, the browser tries again by itself.
      if (events.readyState === EventSource.CLOSED && this.events === events) this.finish("The connection to the server was lost.");
    };
  }

  /** @param {{stage: string, done?: number, total?: number | null}} progress */
  progress({ stage, done = 0, total = null }) {
    this.root.classList.add("is-busy");
    this.part(".missing-offer").hidden = true;
    this.part(".job").hidden = false;
    this.part(".job-stage").textContent = sentence(stage) + (total ? `, ${done} of ${total}` : "");
    const bar = this.part(".job-bar");
    if (total) [bar.max, bar.value] = [total, done];
    else bar.removeAttribute("value");
  }

  async cancel() {
    this.part(".job-stage").textContent = "Cancelling";
    try {
      if (this.job) await send("DELETE", `jobs/${encodeURIComponent(this.job)}`);
    } catch (error) {
      this.finish(/** @type {Error} */ (error).message);
    }
  }

  /** End a job with a message, or "" if all went well. */
  finish(/** @type {string} */ message) {
    this.close();
    this.busy = false;
    this.root.classList.remove("is-busy");
    this.part(".job").hidden = true;
    this.part(".missing-offer").hidden = false;
    this.say(message);
    if (!message) announce("The picture is ready");
    if (now().job) update({ job: "" }, { push: false });
  }

  say(/** @type {string} */ message) {
    this.part(".job-message").textContent = message;
    this.part(".job-message").hidden = !message;
  }

  /** Stop listening; the job goes on. */
  close() {
    this.events?.close();
    this.events = null;
  }
}

/** The query of a state as `/api/generate` takes it: the weights are in the order of text, also, like and not. */
function query(/** @type {import("./state.js").State} */ state) {
  const words = state.q.trim() ? [{ value: state.q.trim(), weight: state.weight }] : [];
  const some = (/** @type {string} */ kind, /** @type {1 | -1} */ sign) => state.terms.filter((term) => term.kind === kind && term.sign === sign);
  const texts = [...words, ...some("text", 1)];
  const like = some("picture", 1);
  const avoided = [...some("text", -1), ...some("picture", -1)];
  return {
    text: texts[0]?.value ?? "",
    also: texts.slice(1).map((term) => term.value),
    like: like.map((term) => term.value),
    not: avoided.map((term) => (term.kind === "text" || term.value.includes(":") ? term.value : `id:${term.value}`)),
    weights: [...texts, ...like, ...avoided].map((term) => term.weight),
  };
}

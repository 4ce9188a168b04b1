// A job of the server: started, followed with progress, and cancelled.

import { get, isAbort, send, sentence } from "./api.js";
import { announce, piece } from "./dom.js";
import { generatedItem } from "./items.js";
import { now, update } from "./state.js";

export class Job {
  /**
   * @param {{found: (item: import("./items.js").Item) => void, busy: (busy: boolean, focused: boolean) => void}} listeners
   *   `found` gets each picture as it is made; `busy` is told when the job begins, and when it ends, and then whether
   *   what had the focus is gone
   */
  constructor({ found, busy }) {
    this.found = found;
    this.tellBusy = busy;
    this.root = piece("job");
    this.busy = false;
    this.cancelling = false;
    this.id = "";
    /** @type {EventSource | null} */
    this.events = null;
    this.part(".job-cancel").addEventListener("click", () => this.cancel());
  }

  /** @returns {any} */
  part(/** @type {string} */ selector) {
    return this.root.querySelector(selector);
  }

  /** Start a job, unless one is running. */
  async start(/** @type {string} */ kind, /** @type {object} */ body) {
    if (this.busy) return;
    this.busy = true;
    this.cancelling = false;
    this.id = "";
    this.say("");
    this.progress({ stage: "Starting" });
    try {
      const { job } = await send("POST", kind, body);
      update({ job: String(job) }, { push: false });
      this.follow(String(job));
      if (this.cancelling) await this.cancel(); // pressed before the server had answered
    } catch (error) {
      this.finish(/** @type {Error} */ (error).message);
    }
  }

  /** Go on showing a job that was started before the page was loaded; return what kind it is, "" if it is gone. */
  async resume(/** @type {string} */ job) {
    if (!job) return "";
    try {
      const { kind } = await get(`jobs/${encodeURIComponent(job)}`);
      this.follow(job);
      return String(kind);
    } catch (error) {
      if (!isAbort(error)) this.finish("");
      return "";
    }
  }

  follow(/** @type {string} */ job) {
    this.busy = true;
    this.id = job;
    this.progress({ stage: "Starting" });
    const events = new EventSource(`api/jobs/${encodeURIComponent(job)}/events`);
    this.events = events;
    const on = (/** @type {string} */ name, /** @type {(data: any) => void} */ listener) =>
      events.addEventListener(name, (event) => listener(JSON.parse(/** @type {MessageEvent} */ (event).data || "{}")));
    on("progress", (data) => this.progress(data));
    on("picture", (data) => this.found(generatedItem(data)));
    on("done", ({ notes = [] }) => {
      this.finish("");
      this.note(notes);
      announce("The picture is ready");
    });
    on("cancelled", () => this.finish("Cancelled."));
    on("failed", (problem) => this.finish(sentence(problem.detail || problem.title || "the picture could not be made")));
    events.onerror = () => {
      // While it is CONNECTING, the browser tries again by itself.
      if (events.readyState === EventSource.CLOSED && this.events === events) this.finish("The connection to the server was lost.");
    };
  }

  /** @param {{stage: string, done?: number, total?: number | null}} progress */
  progress({ stage, done = 0, total = null }) {
    if (this.part(".job").hidden) {
      this.part(".job").hidden = false;
      this.tellBusy(true, false);
    }
    this.part(".job-stage").textContent = sentence(stage) + (total ? `, ${done} of ${total}` : "");
    const bar = this.part(".job-bar");
    if (total) [bar.max, bar.value] = [total, done];
    else bar.removeAttribute("value");
  }

  async cancel() {
    this.cancelling = true;
    this.part(".job-stage").textContent = "Cancelling";
    try {
      if (this.id) await send("DELETE", `jobs/${encodeURIComponent(this.id)}`);
    } catch (error) {
      this.finish(/** @type {Error} */ (error).message);
    }
  }

  /** End with a message, or "" if all went well. */
  finish(/** @type {string} */ message) {
    const focused = this.root.contains(document.activeElement);
    this.close();
    this.busy = false;
    this.part(".job").hidden = true;
    this.say(message);
    if (now().job) update({ job: "" }, { push: false });
    this.tellBusy(false, focused);
  }

  say(/** @type {string} */ message) {
    this.part(".job-message").textContent = message;
    this.part(".job-message").hidden = !message;
  }

  /** Show what the server remarks on the result. */
  note(/** @type {string[]} */ notes) {
    const line = this.part(".job-note");
    line.textContent = notes.map((note) => `${sentence(note)}${/[.!?]$/.test(note) ? "" : "."}`).join(" ");
    line.hidden = notes.length === 0;
  }

  /** Stop listening; the job goes on. */
  close() {
    this.events?.close();
    this.events = null;
  }
}

// The result of a search: matches, near misses and generated pictures, each in a section of its own.

import { get, sentence } from "./api.js";
import { announce, element, piece } from "./dom.js";
import { Grid } from "./grid.js";
import { count, generatedItem, libraryItem } from "./items.js";
import { Missing } from "./missing.js";
import { now, searchParameters, update } from "./state.js";

/** @typedef {import("./items.js").Item} Item */

const PAGE = 60;
/** Answers by their parameters, so that Back shows at once what was there. @type {Map<string, any>} */
const answers = new Map();

async function answer(/** @type {URLSearchParams} */ parameters, /** @type {AbortSignal} */ signal) {
  const key = parameters.toString();
  const found = answers.get(key) ?? (await get("search", parameters, signal));
  answers.delete(key);
  answers.set(key, found);
  if (answers.size > 50) answers.delete(answers.keys().next().value ?? "");
  return found;
}

export class SearchView {
  /** @param {import("./state.js").State} state @param {AbortSignal} signal */
  constructor(state, signal) {
    this.parameters = searchParameters(state);
    this.signal = signal;
    /** @type {Item[]} */
    this.items = [];
    /** Generated pictures, in the order in which they came. @type {Item[]} */
    this.made = [];
    /** @type {number | null} */
    this.next = 0;
    /** @type {Promise<void> | null} */
    this.loading = null;
    /** @type {Grid[]} */
    this.grids = [];
    /** @type {Missing | null} */
    this.missing = null;
  }

  /** Ask for the first page, then replace what the page shows by it. */
  async show(/** @type {HTMLElement} */ root) {
    const first = await this.page();
    this.root = root;
    const all = document.createDocumentFragment();
    const { matched, notes, generated } = first;
    const made = now().made.length ? await madePictures(now().made, this.signal) : [];
    const listed = [...generated.map(generatedItem), ...made.filter((item) => !generated.some((/** @type {any} */ g) => g.id === item.id))];
    if (this.signal.aborted) return;
    root.replaceChildren();
    if (!matched) this.missing = new Missing(all, notes, { missing: true, found: (item) => this.addGenerated(item) });
    this.generated = section(all, "Generated", "Made by a model for this search. These are no photos of yours.");
    this.matches = section(all, "Matches", matched ? notes.map(sentence).join(". ") : "");
    const near = matched
      ? section(all, "Near misses", "The nearest of the rest. They probably do not show what you asked for.")
      : section(all, "Nearest pictures", "They come closest, but probably do not show what you asked for.");
    this.near = near;
    root.append(all);
    this.grids = [this.generated, this.matches, this.near].map(
      (part, i) => new Grid(part.body, { caption: i > 0, label: part.title }),
    );
    this.more = element("button", "More near misses", "quiet more-pages");
    this.more.type = "button";
    this.more.addEventListener("click", () => this.load());
    root.append(this.more);
    if (matched) this.missing = new Missing(root, [], { missing: false, found: (item) => this.addGenerated(item) });
    this.end = element("div", "", "end");
    root.append(this.end);
    this.watching = new IntersectionObserver(([end]) => end.isIntersecting && this.goOn(), { rootMargin: "1500px 0px" });
    for (const item of listed) this.addGenerated(item);
    this.add(first);
    this.watching.observe(this.end);
    this.missing?.resume(now().job);
    announce(matched ? `${count(this.shown("matches"), "match", "matches")}` : "Nothing matches");
  }

  /** Load further pages while matches keep coming; near misses go on when asked for. */
  goOn() {
    if (this.items.at(-1)?.matched) this.load();
  }

  async page() {
    const parameters = new URLSearchParams(this.parameters);
    parameters.set("offset", String(this.next ?? 0));
    parameters.set("limit", String(PAGE));
    return answer(parameters, this.signal);
  }

  add(/** @type {any} */ page) {
    /** @type {Item[]} */
    const items = page.hits.map(libraryItem);
    this.items.push(...items);
    this.next = page.next_offset ?? null;
    const [, matches, near] = this.grids;
    const isMatch = (/** @type {Item} */ item) => item.matched;
    matches.add(items.filter(isMatch));
    near.add(items.filter((/** @type {Item} */ item) => !isMatch(item)));
    this.count();
    const button = /** @type {HTMLElement} */ (this.more);
    button.hidden = this.next === null || Boolean(this.items.at(-1)?.matched);
    // The end of the page may still be in sight, of which the observer would not tell again.
    if (this.watching && this.end) {
      this.watching.unobserve(this.end);
      this.watching.observe(this.end);
    }
  }

  shown(/** @type {"matches" | "near"} */ which) {
    return this.items.filter((item) => Boolean(item.matched) === (which === "matches")).length;
  }

  count() {
    const [generated, matches, near] = this.grids.map((grid) => grid.blocks.reduce((sum, block) => sum + block.shapes.length, 0));
    const open = this.next !== null;
    this.generated?.count(generated, false);
    this.matches?.count(matches, open && Boolean(this.items.at(-1)?.matched));
    this.near?.count(near, open);
  }

  addGenerated(/** @type {Item} */ item) {
    if (this.made.some((other) => other.key === item.key)) return;
    this.made.push(item);
    this.grids[0].add([item]);
    this.count();
    if (!now().made.includes(String(item.id))) update({ made: [...now().made, String(item.id)] }, { push: false });
  }

  /** Load the next page; return when it is there. */
  load() {
    if (this.next === null) return Promise.resolve();
    this.loading ??= this.page()
      .then((page) => this.add(page))
      .finally(() => (this.loading = null));
    return this.loading;
  }

  // --- what the viewer goes through: generated pictures, then the hits as they are shown ---

  get order() {
    const matches = this.items.filter((item) => item.matched);
    return [...this.made, ...matches, ...this.items.filter((item) => !item.matched)];
  }

  get length() {
    return this.made.length + this.items.length + (this.next === null ? 0 : 1);
  }

  /** Whether the last of `length` stands for a page that is not loaded yet. */
  get open() {
    return this.next !== null;
  }

  at(/** @type {number} */ index) {
    return this.order[index];
  }

  indexOf(/** @type {string} */ key) {
    return this.order.findIndex((item) => item.key === key);
  }

  close() {
    this.watching?.disconnect();
    for (const grid of this.grids) grid.close();
    this.missing?.close();
  }
}

/** A titled section that is hidden while it is empty. */
function section(/** @type {DocumentFragment} */ parent, /** @type {string} */ title, /** @type {string} */ note) {
  const whole = piece("section");
  const part = (/** @type {string} */ selector) => /** @type {HTMLElement} */ (whole.querySelector(selector));
  part("h2").textContent = title;
  part(".section-note").textContent = note;
  part(".section-note").hidden = !note;
  whole.hidden = true;
  whole.classList.add(`section-${title.split(" ")[0].toLowerCase()}`);
  parent.append(whole);
  return {
    title,
    body: part(".section-body"),
    count(/** @type {number} */ number, /** @type {boolean} */ open) {
      whole.hidden = number === 0;
      part(".section-count").textContent = `${number}${open ? "+" : ""}`;
    },
  };
}

/** Pictures that were generated for this search before the page was reloaded; those that are gone are left out. */
async function madePictures(/** @type {string[]} */ ids, /** @type {AbortSignal} */ signal) {
  const found = await Promise.allSettled(ids.map((id) => get(`generated/${encodeURIComponent(id)}`, {}, signal)));
  return found.flatMap((one) => (one.status === "fulfilled" ? [generatedItem(one.value)] : []));
}

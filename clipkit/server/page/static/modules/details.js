// What is known about the picture in the viewer, and what can be done with it.

import { get } from "./api.js";
import { copy, element, piece, toast } from "./dom.js";
import { badge, confidenceWord, fileName, moment, name, percent } from "./items.js";
import { selectRegion } from "./region.js";
import { showMenu } from "./operations/menu.js";
import { ask } from "./operations/start.js";
import { EMPTY, isSearch, now, pictureTerm, update, visit } from "./state.js";

/** @typedef {import("./items.js").Item} Item */

/** How a picture was made, by operation. @type {Record<string, string>} */
const DONE = {
  generate: "Generated", vary: "A variation", blend: "A blend", restyle: "Restyled", edit: "Edited in part", extend: "Extended", upscale: "Upscaled",
};

export class Details {
  constructor() {
    this.root = piece("details");
    /** @type {Item | null} */
    this.item = null;
    this.hidden = false;
    /** Called before the page goes to another view. */
    this.onLeave = () => {};
    this.part(".copy").addEventListener("click", () => this.copyPath());
    this.part(".more").addEventListener("click", () => this.more());
    this.part(".show").addEventListener("click", () => this.showInTimeline());
    this.part(".part").addEventListener("click", () => this.searchByPart());
    this.part(".why").addEventListener("click", () => this.why());
    this.part(".make").addEventListener("click", () => this.menu());
  }

  /** @returns {any} */
  part(/** @type {string} */ selector) {
    return this.root.querySelector(selector);
  }

  toggle() {
    this.hidden = !this.hidden;
    this.root.hidden = this.hidden;
  }

  /** The room that the details take from the picture: at the right, or at the bottom of a narrow screen. */
  padding(/** @type {{x: number, y: number}} */ size, /** @type {number} */ narrow, /** @type {number} */ width) {
    const top = 56;
    if (this.hidden) return { top, right: 16, bottom: 16, left: 16 };
    if (size.x < narrow) return { top, right: 8, bottom: Math.round(size.y * 0.42), left: 8 };
    return { top, right: width + 24, bottom: 24, left: 24 };
  }

  /** Show what the item itself says, then what the library knows. */
  async show(/** @type {Item} */ item) {
    if (this.item?.key === item.key) return;
    this.item = item;
    this.part(".badge").hidden = !item.marked;
    this.part(".badge").textContent = badge(item);
    this.part(".details-name").textContent = !item.generated ? name(item) : item.edited ? "An edited photograph" : "Not a photograph";
    const confidence = this.part(".details-confidence");
    confidence.hidden = item.confidence === undefined;
    if (item.confidence !== undefined) {
      confidence.textContent = `${confidenceWord(item.confidence)} what you asked for, ${percent(item.confidence)}`;
      confidence.classList.toggle("is-match", Boolean(item.matched));
    }
    this.part(".details-path code").textContent = item.path;
    this.part(".original").href = item.original;
    for (const selector of [".show", ".part"]) this.part(selector).hidden = item.generated;
    this.part(".why").hidden = !isSearch(now());
    this.facts(item, {});
    const known = await get(`${item.generated ? "generated" : "images"}/${item.id}`).catch(() => ({}));
    if (this.item === item) this.facts(item, known);
  }

  facts(/** @type {Item} */ item, /** @type {any} */ known) {
    const raw = { ...item.raw, ...known };
    const taken = raw.taken;
    const offset = taken?.slice(19);
    const facts = item.generated
      ? {
          Made: DONE[raw.operation] ?? "",
          "Asked for": [raw.query?.text, ...list(raw.query?.also)].filter(Boolean).join(", "),
          Without: list(raw.query?.not).join(", "),
          From: list(raw.parents).map(fileName).join("\n"),
          Decoder: raw.decoder,
          Seed: raw.seed,
          Steps: raw.steps,
          Guidance: raw.guidance,
          When: raw.created_at && `${moment(raw.created_at)} UTC`,
          Pixels: pixels(raw),
          "Again with": raw.command,
        }
      : {
          Title: raw.title,
          Taken: taken && moment(taken) + (offset ? ` (UTC${offset})` : ""),
          Camera: raw.camera,
          Lens: raw.lens,
          Place: raw.latitude != null && raw.longitude != null && `${raw.latitude.toFixed(4)}, ${raw.longitude.toFixed(4)}`,
          Pixels: pixels(raw),
          File: [raw.format, raw.bytes && bytes(raw.bytes)].filter(Boolean).join(", "),
          Description: raw.description,
          Keywords: list(raw.keywords).join(", "),
          "Same file": list(raw.copies).join("\n"),
          Similarity: item.score !== undefined && item.score.toFixed(3),
        };
    const rows = Object.entries(facts).filter(([, value]) => value !== undefined && value !== null && value !== false && value !== "");
    this.part(".details-facts").replaceChildren(
      ...rows.map(([term, value]) => {
        const row = element("div");
        row.append(element("dt", term), element("dd", String(value)));
        return row;
      }),
    );
  }

  async copyPath() {
    if (this.item) toast((await copy(this.item.path)) ? "Path copied" : "The path could not be copied");
  }

  more() {
    if (!this.item) return;
    this.onLeave();
    visit({ terms: [pictureTerm(this.item.key)] });
  }

  showInTimeline() {
    if (!this.item || this.item.generated) return;
    this.onLeave();
    showInTimeline(this.item);
  }

  why() {
    if (this.item && isSearch(now())) ask("why", this.item);
  }

  /** The menu of what can be made of the picture. */
  menu() {
    const button = this.hidden ? this.root.parentElement : this.part(".make");
    if (this.item && button) showMenu(this.item, button, { making: true });
  }

  async searchByPart() {
    const item = this.item;
    if (!item) return;
    const chosen = await selectRegion({ source: item.original, fallback: item, width: item.width, height: item.height, region: "" });
    if (chosen === null) return;
    this.onLeave();
    visit({ terms: [pictureTerm(item.id, chosen)] });
  }
}

/** Leave the search and its filters, and point at a picture among those of its month. */
export const showInTimeline = (/** @type {Item} */ item) =>
  update({ ...EMPTY, at: item.taken?.slice(0, 10) ?? "", show: item.key });

const pixels = (/** @type {any} */ raw) => raw.width && raw.height && `${raw.width} \u00d7 ${raw.height}`;

function bytes(/** @type {number} */ size) {
  const [number, unit] = size < 1e6 ? [size / 1e3, "kB"] : [size / 1e6, "MB"];
  return `${number < 10 ? number.toFixed(1) : Math.round(number)} ${unit}`;
}

/** A list, also one that is written as JSON. @returns {string[]} */
function list(/** @type {unknown} */ value) {
  if (typeof value === "string" && value.startsWith("[")) return JSON.parse(value);
  return Array.isArray(value) ? value : value ? [String(value)] : [];
}

// The terms of the search and the filters as chips.

import { get } from "./api.js";
import { byId, element, icon, piece } from "./dom.js";
import { libraryItem, monthName, nextMonth } from "./items.js";
import { selectRegion } from "./region.js";
import { FILTERS, WEIGHTS, defaultWeight, now, update } from "./state.js";
import { uploadFile, uploadThumbnail } from "./uploads.js";

/** @typedef {import("./state.js").Term} Term */
/** @typedef {import("./state.js").State} State */

/** Show the terms of a state. */
export function showTerms(/** @type {State} */ state) {
  const box = byId("terms");
  const focused = /** @type {HTMLElement | null} */ (box.contains(document.activeElement) ? document.activeElement : null);
  const place = focused && [focused.closest("[data-chip]")?.getAttribute("data-chip"), focused.className];
  const terms = state.view === "" ? state.terms.map(termChip) : [];
  // One weight alone changes nothing.
  if (terms.length && state.q.trim()) terms.unshift(wordsChip(state));
  const chips = [...terms, ...FILTERS.filter((name) => state[name]).flatMap((name) => filterChip(state, name))];
  chips.forEach((chip, i) => (chip.dataset.chip = String(i)));
  box.replaceChildren(...chips);
  box.hidden = chips.length === 0;
  if (place) restoreFocus(box, place);
}

function restoreFocus(/** @type {HTMLElement} */ box, /** @type {(string | null | undefined)[]} */ [index, className]) {
  const same = [...box.querySelectorAll(`[data-chip="${index}"] *`)].find((one) => one.className === className);
  /** @type {HTMLElement} */ (same ?? box.querySelector("[data-chip]:last-child .term-remove") ?? byId("q")).focus();
}

const change = (/** @type {number} */ index, /** @type {Partial<Term>} */ patch) =>
  update({ terms: now().terms.map((term, i) => (i === index ? { ...term, ...patch } : term)), job: "", made: [] });

function termChip(/** @type {Term} */ term, /** @type {number} */ index) {
  const chip = piece("term");
  const part = (/** @type {string} */ selector) => /** @type {any} */ (chip.querySelector(selector));
  const label = term.kind === "text" ? term.value : term.value.startsWith("upload:") ? "Your picture" : `Picture ${term.value}`;
  chip.setAttribute("aria-label", `${term.sign > 0 ? "Wanted" : "Avoided"}: ${label}`);
  chip.classList.toggle("is-avoided", term.sign < 0);
  const sign = part(".term-sign");
  const flipped = /** @type {1 | -1} */ (-term.sign);
  sign.title = term.sign > 0 ? "Wanted; press to avoid it" : "Avoided; press to want it";
  sign.setAttribute("aria-label", sign.title);
  part(".term-sign use").setAttribute("href", term.sign > 0 ? "#icon-plus" : "#icon-minus");
  sign.addEventListener("click", () => {
    const usual = term.weight === defaultWeight(term.sign);
    change(index, { sign: flipped, weight: usual ? defaultWeight(flipped) : term.weight, region: flipped < 0 ? "" : term.region });
  });
  part(".term-label").textContent = term.kind === "text" ? term.value : term.region ? "part of this picture" : "like this picture";
  if (term.kind === "picture") showPicture(chip, term, index);
  weights(part(".term-weight"), term.weight, label, (weight) => change(index, { weight }));
  const remove = part(".term-remove");
  remove.querySelector(".unseen").textContent = `Remove ${label}`;
  remove.addEventListener("click", () => update({ terms: now().terms.filter((_, i) => i !== index), job: "", made: [] }));
  return chip;
}

function showPicture(/** @type {HTMLElement} */ chip, /** @type {Term} */ term, /** @type {number} */ index) {
  const image = /** @type {HTMLImageElement} */ (chip.querySelector(".term-picture"));
  const upload = term.value.startsWith("upload:");
  const made = /^generated:(.*)/.exec(term.value);
  const place = made ? `api/generated/${made[1]}` : `api/images/${term.value}`;
  const source = upload ? uploadThumbnail(term.value) : `${place}/thumbnail?size=160`;
  image.hidden = !source;
  if (source) image.src = source;
  image.addEventListener("error", () => (image.hidden = true));
  const crop = /** @type {HTMLElement} */ (chip.querySelector(".term-crop"));
  crop.hidden = term.sign < 0 || Boolean(made) || (upload && !uploadFile(term.value));
  crop.addEventListener("click", async () => {
    const region = await (upload ? regionOfUpload(term) : regionOfPicture(term));
    if (region !== null) change(index, { region });
  });
}

async function regionOfUpload(/** @type {Term} */ term) {
  const source = uploadFile(term.value);
  const picture = new Image();
  picture.src = source;
  await picture.decode();
  return selectRegion({ source, width: picture.naturalWidth, height: picture.naturalHeight, region: term.region });
}

async function regionOfPicture(/** @type {Term} */ term) {
  const item = libraryItem(await get(`images/${term.value}`));
  return selectRegion({ fallback: item, width: item.width, height: item.height, region: term.region });
}

/** The words in the box, while there are other terms: only their weight can be changed here. */
function wordsChip(/** @type {State} */ state) {
  const chip = piece("term");
  chip.classList.add("is-words");
  chip.setAttribute("aria-label", `Wanted: ${state.q}`);
  for (const selector of [".term-sign", ".term-remove"]) chip.querySelector(selector)?.remove();
  /** @type {HTMLElement} */ (chip.querySelector(".term-label")).textContent = state.q.trim();
  weights(/** @type {any} */ (chip.querySelector(".term-weight")), state.weight, state.q, (weight) => update({ weight, job: "", made: [] }));
  return chip;
}

function weights(
  /** @type {HTMLSelectElement} */ select, /** @type {number} */ weight, /** @type {string} */ label, /** @type {(weight: number) => void} */ chosen,
) {
  select.setAttribute("aria-label", `Weight of ${label}`);
  for (const value of [...new Set([...WEIGHTS, weight])].sort((a, b) => a - b)) {
    const option = element("option", `\u00d7${value}`);
    option.value = String(value);
    select.append(option);
  }
  select.value = String(weight);
  select.addEventListener("change", () => chosen(Number(select.value)));
}

/** A chip that names a filter and removes it; both ends of a range of dates share one. */
function filterChip(/** @type {State} */ state, /** @type {typeof FILTERS[number]} */ filter) {
  if (filter === "before" && state.after) return [];
  const chip = element("div", "", "term is-filter");
  chip.setAttribute("role", "group");
  const isDate = filter === "after" || filter === "before";
  const text = isDate ? dates(state.after, state.before) : { camera: state.camera, under: folderName(state.under), near: `Near ${state.near}` }[filter];
  chip.setAttribute("aria-label", `Filter: ${text}`);
  const remove = element("button", "", "term-remove");
  remove.type = "button";
  remove.append(icon("close"), element("span", `Remove the filter ${text}`, "unseen"));
  remove.addEventListener("click", () => update(isDate ? { after: "", before: "" } : { [filter]: "" }));
  chip.append(element("span", text, "term-label"), remove);
  return [chip];
}

/** The last part of a folder's path. */
export const folderName = (/** @type {string} */ path) => path.split(/[\\/]/).filter(Boolean).pop() ?? path;

/** A range of dates in words; `before` is the day after the last. */
export function dates(/** @type {string} */ after, /** @type {string} */ before) {
  const month = after.endsWith("-01") && (!before || before.endsWith("-01"));
  if (month && before === `${nextMonth(after.slice(0, 7))}-01`) return monthName(after.slice(0, 7));
  const day = (/** @type {string} */ date) => new Date(`${date}T00:00Z`).toLocaleDateString("en-GB", { day: "numeric", month: "short", year: "numeric", timeZone: "UTC" });
  if (after && before) return `${day(after)} to ${day(previousDay(before))}`;
  return after ? `Since ${day(after)}` : `Until ${day(previousDay(before))}`;
}

export const previousDay = (/** @type {string} */ date) => shift(date, -1);
export const nextDay = (/** @type {string} */ date) => shift(date, 1);

function shift(/** @type {string} */ date, /** @type {number} */ days) {
  const moved = new Date(`${date}T00:00Z`);
  moved.setUTCDate(moved.getUTCDate() + days);
  return Number.isNaN(moved.valueOf()) ? date : moved.toISOString().slice(0, 10);
}

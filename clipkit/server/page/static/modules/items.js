// Pictures as the page handles them, and the words that describe them.

/**
 * @typedef {object} Item
 * @property {number} id
 * @property {string} key  "12", or "generated:3"
 * @property {boolean} generated  made by clipkit: not a picture of the library
 * @property {boolean} marked  carries a mark that says a model made it
 * @property {boolean} [edited]  a photograph that a model changed in part
 * @property {string} path
 * @property {number} width
 * @property {number} height
 * @property {string} thumbnail
 * @property {string} original
 * @property {string | null} taken
 * @property {boolean} [matched]
 * @property {number} [confidence]
 * @property {number} [score]
 * @property {boolean} [away]
 * @property {Record<string, any>} raw  what the API answered
 */

/** @returns {Item} */
export function libraryItem(/** @type {any} */ raw) {
  return {
    id: raw.id, key: String(raw.id), generated: false, marked: Boolean(raw.generated), path: raw.path,
    width: raw.width || 4, height: raw.height || 3,
    thumbnail: relative(raw.thumbnail ?? `/api/images/${raw.id}/thumbnail?size=320`),
    original: relative(raw.original ?? `/api/images/${raw.id}/original`),
    taken: raw.taken ?? null, matched: raw.matched, confidence: raw.confidence, score: raw.score,
    away: raw.away, raw,
  };
}

/** @returns {Item} */
export function generatedItem(/** @type {any} */ raw) {
  return {
    id: raw.id, key: `generated:${raw.id}`, generated: true, marked: true, edited: Boolean(raw.edited), path: raw.path,
    width: raw.width || 1, height: raw.height || 1,
    thumbnail: relative(raw.thumbnail ?? `/api/generated/${raw.id}/thumbnail?size=320`),
    original: relative(raw.original ?? `/api/generated/${raw.id}/original`),
    taken: null, raw,
  };
}

// The page may be served below a prefix, so addresses are relative to it.
const relative = (/** @type {string} */ path) => path.replace(/^\//, "");

/** The last part of a path. */
export const fileName = (/** @type {string} */ path) => path.split(/[\\/]/).pop() || path;

export const name = (/** @type {Item} */ item) => fileName(item.path);

/** What the badge of a marked picture says. */
export const badge = (/** @type {Item} */ item) => (item.edited ? "Edited" : "Generated");

/** A picture in words, for those who do not see it. */
export const description = (/** @type {Item} */ item) => `${item.marked ? `${badge(item)} picture ` : ""}${name(item)}`;

export const SIZES = [160, 320, 640, 1280, 2560];

/** The address of a thumbnail whose longer side has `size` pixels. */
export function thumbnail(/** @type {Item} */ item, /** @type {number} */ size) {
  const [path, query] = item.thumbnail.split("?");
  const parameters = new URLSearchParams(query);
  parameters.set("size", String(size));
  return `${path}?${parameters}`;
}

/** Thumbnails for `srcset`, with the width of each. */
export function thumbnails(/** @type {Item} */ item, sizes = SIZES) {
  const share = Math.min(1, item.width / item.height);
  return sizes.map((size) => `${thumbnail(item, size)} ${Math.max(1, Math.round(size * share))}w`).join(", ");
}

/** Whether browsers can show the file itself. */
export const isWebFormat = (/** @type {Item} */ item) => /\.(jpe?g|png|webp|avif|gif|bmp)$/i.test(item.path);

/** A probability in a plain word, which depends on the percentage that is shown beside it. */
export function confidenceWord(/** @type {number} */ exact) {
  const confidence = Math.round(100 * exact) / 100;
  if (confidence >= 0.9) return "Very likely";
  if (confidence >= 0.7) return "Likely";
  if (confidence >= 0.4) return "Possible";
  if (confidence >= 0.15) return "Unlikely";
  return "Very unlikely";
}

const PLACE = /^(on|in|at|under|by|among|near|inside|outside|over|behind) /;

/** "no dog" for "a dog", "not at night" for "at night". */
const without = (/** @type {string} */ part) =>
  PLACE.test(part) ? `not ${part}` : `no ${part.replace(/^(a|an|the) /, "")}`;

const capitalised = (/** @type {string} */ text) => text.charAt(0).toUpperCase() + text.slice(1);

/** What a tile says of a hit before its confidence. */
export function word(/** @type {Item} */ item) {
  if (item.away) return "Away";
  if (item.raw.relation === "copy") return "Copy";
  if (item.raw.lacks?.length) return capitalised(item.raw.lacks.map(without).join(", "));
  return confidenceWord(item.confidence ?? 0);
}

export const percent = (/** @type {number} */ confidence) => `${Math.round(100 * confidence)}%`;

const MONTH = new Intl.DateTimeFormat("en-GB", { month: "long", year: "numeric", timeZone: "UTC" });
const SHORT_MONTH = new Intl.DateTimeFormat("en-GB", { month: "short", year: "numeric", timeZone: "UTC" });
const MOMENT = new Intl.DateTimeFormat("en-GB", { dateStyle: "full", timeStyle: "short", timeZone: "UTC" });

/** "2024-05" as "May 2024"; null as "Without a date". */
export const monthName = (/** @type {string | null} */ month, short = false) =>
  month ? (short ? SHORT_MONTH : MONTH).format(new Date(`${month}-01T00:00Z`)) : "Without a date";

/** A local time as it was where the picture was taken, whatever the zone of this browser. */
export function moment(/** @type {string} */ taken) {
  const local = new Date(`${taken.slice(0, 19)}Z`);
  return Number.isNaN(local.valueOf()) ? taken : MOMENT.format(local);
}

/** The month after "2024-12" is "2025-01". */
export function nextMonth(/** @type {string} */ month) {
  const [year, number] = month.split("-").map(Number);
  return number === 12 ? `${String(year + 1).padStart(4, "0")}-01` : `${String(year).padStart(4, "0")}-${String(number + 1).padStart(2, "0")}`;
}

const NUMBER = new Intl.NumberFormat("en-GB");

/** "1 picture", "1,234 pictures". */
export const count = (/** @type {number} */ number, /** @type {string} */ one, many = `${one}s`) =>
  `${NUMBER.format(number)} ${number === 1 ? one : many}`;

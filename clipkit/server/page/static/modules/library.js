// What the server says about itself and its library, asked once.

import { get } from "./api.js";
import { generatedItem, libraryItem } from "./items.js";

/** @type {Promise<any> | null} */
let asked = null;

/** @returns {Promise<any>} The answer of `/api/info`. */
export const library = () => (asked ??= get("info"));

/** @returns {Promise<import("./items.js").Item>} The picture that a key names: "12", or "generated:3". */
export async function picture(/** @type {string} */ key) {
  const [kind, id] = key.includes(":") ? key.split(":") : ["images", key];
  const raw = await get(`${encodeURIComponent(kind)}/${encodeURIComponent(id)}`);
  return kind === "generated" ? generatedItem(raw) : libraryItem(raw);
}

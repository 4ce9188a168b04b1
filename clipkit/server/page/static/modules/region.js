// Select a part of a picture to search by.

import { byId } from "./dom.js";
import { Frame } from "./frame.js";
import { thumbnail } from "./items.js";

/** @type {Frame} */
let frame;

/**
 * Let the user select a part of a picture.
 * @param {{source?: string, fallback?: import("./items.js").Item, width: number, height: number, region: string}} picture
 * @returns {Promise<string | null>}  "x,y,width,height" in pixels, "" for the whole picture, null if it was cancelled
 */
export function selectRegion({ source, fallback, width, height, region }) {
  const dialog = /** @type {HTMLDialogElement} */ (byId("region"));
  const image = /** @type {HTMLImageElement} */ (byId("region-image"));
  // A reduced picture loads faster, and exists for formats that browsers cannot show.
  image.src = fallback ? thumbnail(fallback, 1280) : (source ?? "");
  byId("region-picture").style.setProperty("--shape", String(width / height));
  frame.show(region, width, height);
  dialog.returnValue = "cancel";
  dialog.showModal();
  byId("region-frame").focus();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      if (dialog.returnValue === "whole") return resolve("");
      resolve(dialog.returnValue === "use" ? frame.pixels(width, height).join(",") : null);
    }, { once: true });
  });
}

/** Listen to pointer and keys; called once. */
export function prepareRegion() {
  frame = new Frame(byId("region-picture"), byId("region-frame"));
  byId("region-frame").addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => event.key === "Enter" && byId("region").close("use"));
  // The viewer below listens to the keys of the whole document.
  byId("region").addEventListener("keydown", (/** @type {Event} */ event) => event.stopPropagation());
}

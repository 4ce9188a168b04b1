// Select a part of a picture, by pointer or by keyboard.

import { byId } from "./dom.js";
import { thumbnail } from "./items.js";

/** The frame in shares of the picture: left, top, width, height. */
let frame = [0.25, 0.25, 0.5, 0.5];
const SMALLEST = 0.05;

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
  const numbers = region.split(",").map(Number);
  frame = numbers.length === 4 ? [numbers[0] / width, numbers[1] / height, numbers[2] / width, numbers[3] / height] : [0.25, 0.25, 0.5, 0.5];
  draw();
  dialog.returnValue = "cancel";
  dialog.showModal();
  byId("region-frame").focus();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      if (dialog.returnValue === "whole") return resolve("");
      if (dialog.returnValue !== "use") return resolve(null);
      const [x, y] = [Math.round(frame[0] * width), Math.round(frame[1] * height)];
      const [w, h] = [Math.round(frame[2] * width), Math.round(frame[3] * height)];
      resolve([x, y, Math.max(1, Math.min(w, width - x)), Math.max(1, Math.min(h, height - y))].join(","));
    }, { once: true });
  });
}

function draw() {
  const box = byId("region-frame");
  const [left, top, width, height] = frame.map((share) => `${(100 * share).toFixed(2)}%`);
  Object.assign(box.style, { left, top, width, height });
}

const limit = (/** @type {number} */ value, /** @type {number} */ low, /** @type {number} */ high) => Math.min(high, Math.max(low, value));

/** Listen to pointer and keys; called once. */
export function prepareRegion() {
  const area = byId("region-picture");
  /** @type {[number, number] | null} */
  let from = null;
  const place = (/** @type {PointerEvent} */ event) => {
    const box = area.getBoundingClientRect();
    return /** @type {[number, number]} */ ([limit((event.clientX - box.left) / box.width, 0, 1), limit((event.clientY - box.top) / box.height, 0, 1)]);
  };
  area.addEventListener("pointerdown", (/** @type {PointerEvent} */ event) => {
    from = place(event);
    area.setPointerCapture(event.pointerId);
    event.preventDefault();
  });
  area.addEventListener("pointermove", (/** @type {PointerEvent} */ event) => {
    if (!from) return;
    const to = place(event);
    const [left, top] = [Math.min(from[0], to[0]), Math.min(from[1], to[1])];
    const [width, height] = [Math.abs(from[0] - to[0]), Math.abs(from[1] - to[1])];
    if (width < SMALLEST / 2 && height < SMALLEST / 2) return;
    frame = [Math.min(left, 1 - SMALLEST), Math.min(top, 1 - SMALLEST), Math.max(width, SMALLEST), Math.max(height, SMALLEST)];
    draw();
  });
  // The viewer below listens to the keys of the whole document.
  byId("region").addEventListener("keydown", (/** @type {Event} */ event) => event.stopPropagation());
  for (const name of ["pointerup", "pointercancel"]) area.addEventListener(name, () => (from = null));
  byId("region-frame").addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (event.key === "Enter") return byId("region").close("use");
    if (!step) return;
    event.preventDefault();
    const [dx, dy] = step.map((direction) => direction * 0.02);
    const [left, top, width, height] = frame;
    frame = event.shiftKey
      ? [left, top, limit(width + dx, SMALLEST, 1 - left), limit(height + dy, SMALLEST, 1 - top)]
      : [limit(left + dx, 0, 1 - width), limit(top + dy, 0, 1 - height), width, height];
    draw();
  });
}

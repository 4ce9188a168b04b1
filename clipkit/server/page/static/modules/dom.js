// Access to the page's elements, and messages to the user.

/** @returns {any} The element with an id; the templates have it. */
export const byId = (/** @type {string} */ id) => document.getElementById(id);

/** @returns {HTMLElement} A copy of the one element in a template. */
export const piece = (/** @type {string} */ id) =>
  /** @type {HTMLElement} */ (/** @type {HTMLTemplateElement} */ (byId(id)).content.firstElementChild?.cloneNode(true));

/**
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag @param {string} [text] @param {string} [className]
 * @returns {HTMLElementTagNameMap[K]}
 */
export function element(tag, text = "", className = "") {
  const created = document.createElement(tag);
  created.textContent = text;
  if (className) created.className = className;
  return created;
}

/** @returns {SVGSVGElement} A picture of the set in icons.html. */
export function icon(/** @type {string} */ which) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  use.setAttribute("href", `#icon-${which}`);
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  svg.append(use);
  return svg;
}

/** Tell a screen reader what the page shows now. */
export const announce = (/** @type {string} */ text) => {
  byId("status").textContent = text;
};

/** @type {number | undefined} */
let hiding;

/** Show a message for a few seconds. */
export function toast(/** @type {string} */ text) {
  const box = byId("toast");
  // Below a dialog or the viewer it would be hidden, or inert.
  (document.querySelector("dialog[open]") ?? document.querySelector(".pswp--open") ?? document.body).append(box);
  box.textContent = text;
  box.hidden = false;
  clearTimeout(hiding);
  hiding = setTimeout(() => (box.hidden = true), 4000);
}

/** Whether an event comes from where keys are typed. */
export const isTyping = (/** @type {Event} */ event) =>
  event.target instanceof Element && event.target.matches("input, select, textarea, [contenteditable]");

/** Whether the hand is on the screen rather than on a keyboard. */
export const isTouch = () => matchMedia("(hover: none)").matches;

/** How to scroll: at once for those who asked for less motion. */
export const scrolling = () => (matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth");

/** Copy a text to the clipboard; return whether that worked. */
export async function copy(/** @type {string} */ text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Without HTTPS, as on another machine of the house, the clipboard is only open to the old command.
    const field = element("textarea");
    field.value = text;
    (document.querySelector(".pswp--open") ?? document.body).append(field);
    field.select();
    const copied = document.execCommand("copy");
    field.remove();
    return copied;
  }
  return true;
}

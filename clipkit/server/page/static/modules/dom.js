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

/** Tell a screen reader what the page shows now. */
export const announce = (/** @type {string} */ text) => {
  byId("status").textContent = text;
};

/** @type {number | undefined} */
let hiding;

/** Show a message for a few seconds. */
export function toast(/** @type {string} */ text) {
  const box = byId("toast");
  // In the viewer, what is outside of it is inert.
  (document.querySelector(".pswp--open") ?? document.body).append(box);
  box.textContent = text;
  box.hidden = false;
  clearTimeout(hiding);
  hiding = setTimeout(() => (box.hidden = true), 4000);
}

/** Whether an event comes from where keys are typed. */
export const isTyping = (/** @type {Event} */ event) =>
  event.target instanceof Element && event.target.matches("input, select, textarea, [contenteditable]");

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

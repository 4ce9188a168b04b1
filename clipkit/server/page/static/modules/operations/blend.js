// Blend: the pictures on the way from one to another, or to what a text says.

import { get, isAbort } from "../api.js";
import { element } from "../dom.js";
import { libraryItem, name, thumbnail } from "../items.js";
import { hasWords } from "../state.js";

const CHOICES = 24;
const PAUSE = 200;

/** @type {import("./dialogs.js").Operation} */
export function blend(dialog, item, signal) {
  const part = (/** @type {string} */ selector) => /** @type {any} */ (dialog.querySelector(selector));
  const [search, list, chosen] = [part("#blend-search"), part("#blend-choices"), part("#blend-chosen")];
  const make = part(".make-it");
  /** @type {string | {text: string} | null} */
  let other = null;
  /** @type {AbortController | null} */
  let request = null;
  /** @type {number | undefined} */
  let waiting;

  const choose = (/** @type {typeof other} */ choice, /** @type {string} */ picture) => {
    other = choice;
    chosen.hidden = !picture;
    if (picture) chosen.src = picture;
    make.disabled = choice === null;
  };
  const option = (/** @type {string} */ label, /** @type {Node} */ shown, /** @type {() => void} */ run) => {
    const whole = element("label", "", "blend-choice");
    const radio = element("input");
    Object.assign(radio, { type: "radio", name: "other" });
    radio.setAttribute("aria-label", label);
    radio.addEventListener("change", run);
    whole.append(radio, shown);
    return whole;
  };
  const load = async () => {
    request?.abort();
    request = new AbortController();
    const q = search.value.trim();
    const words = hasWords(q);
    const asked = AbortSignal.any([request.signal, signal]);
    try {
      const found = words ? (await get("search", { q, limit: CHOICES }, asked)).hits : (await get("images", { order: "taken", limit: CHOICES }, asked)).images;
      const items = found.map(libraryItem).filter((/** @type {import("../items.js").Item} */ one) => one.key !== item.key);
      choose(null, "");
      list.querySelectorAll(".blend-choice").forEach((/** @type {Element} */ one) => one.remove());
      if (words) list.append(option(`The words ${q}`, element("span", `\u201c${q}\u201d`, "blend-words"), () => choose({ text: q }, "")));
      for (const one of items) {
        const image = element("img");
        Object.assign(image, { alt: "", src: thumbnail(one, 160), loading: "lazy" });
        list.append(option(name(one), image, () => choose(one.key, thumbnail(one, 160))));
      }
      list.scrollTop = 0;
    } catch (error) {
      if (!isAbort(error)) fail(/** @type {Error} */ (error).message);
    }
  };
  const fail = (/** @type {string} */ message) => {
    part(".operation-error").textContent = message;
    part(".operation-error").hidden = false;
  };
  search.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(load, PAUSE);
  }, { signal });
  search.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
    if (event.key !== "Enter") return;
    // Enter searches; only the button blends.
    event.preventDefault();
    clearTimeout(waiting);
    load();
  }, { signal });
  list.querySelectorAll(".blend-choice").forEach((/** @type {Element} */ one) => one.remove());
  choose(null, "");
  load();
  return {
    focus: search,
    parameters: async () => ({ items: [item.key, other], steps: Number(part("form").elements.steps.value) }),
  };
}

// The dialogs of the operations on a picture. Which one is open, and for which picture, is part of the state.

import { byId, toast } from "../dom.js";
import { thumbnail } from "../items.js";
import { picture } from "../library.js";
import { now } from "../state.js";
import { blend } from "./blend.js";
import { edit } from "./edit.js";
import { extend } from "./extend.js";
import { restyle } from "./restyle.js";
import { leave, start } from "./start.js";
import { why } from "./why.js";

/**
 * Prepares the dialog of an operation for a picture. What it listens to ends with `signal`.
 * `focus`: what is focused first. `parameters`: what the API is told; raises an Error whose message is shown.
 * `image`: the picture's image, if it is not `.operation-picture`. `shown`: called once the dialog has a size.
 * @callback Operation
 * @param {HTMLDialogElement} dialog
 * @param {import("../items.js").Item} item
 * @param {AbortSignal} signal
 * @returns {{focus: HTMLElement, parameters: () => Promise<Record<string, unknown>>, image?: HTMLImageElement, shown?: () => void}}
 */

/** @type {Record<string, Operation | undefined>} */
const OPERATIONS = { blend, edit, extend, restyle, why };

/** The dialog on show or on its way. @type {{act: string, of: string, close: () => void} | null} */
let open = null;

/** Show the dialog that a state names, and none if it names none. */
export function showDialog(/** @type {import("../state.js").State} */ { act, of }) {
  if (open?.act === act && open.of === of) return;
  open?.close();
  open = null;
  const operation = OPERATIONS[act];
  if (!operation || !of) return;
  const stop = new AbortController();
  const dialog = /** @type {HTMLDialogElement} */ (byId(act));
  open = {
    act, of,
    close() {
      stop.abort();
      dialog.close();
    },
  };
  prepare(operation, dialog, act, of, stop.signal).catch((error) => {
    if (stop.signal.aborted) return;
    toast(error.message);
    leave();
  });
}

async function prepare(
  /** @type {Operation} */ operation, /** @type {HTMLDialogElement} */ dialog, /** @type {string} */ act,
  /** @type {string} */ of, /** @type {AbortSignal} */ signal,
) {
  const item = await picture(of);
  if (signal.aborted) return;
  const part = (/** @type {string} */ selector) => /** @type {any} */ (dialog.querySelector(selector));
  part("form").reset();
  const fail = (/** @type {string} */ message) => {
    part(".operation-error").textContent = message;
    part(".operation-error").hidden = !message;
  };
  fail("");
  dialog.style.setProperty("--shape", String(item.width / item.height));
  const { focus, parameters, image, shown } = operation(dialog, item, signal);
  // A reduced picture loads faster, and exists for formats that browsers cannot show.
  (image ?? part(".operation-picture")).src = thumbnail(item, 1280);
  part("form").addEventListener("submit", async (/** @type {Event} */ event) => {
    event.preventDefault();
    const make = part(".make-it");
    if (!make || make.disabled) return;
    make.disabled = true;
    fail("");
    try {
      await start(act, item, await parameters(), { tell: false });
    } catch (error) {
      fail(/** @type {Error} */ (error).message);
    } finally {
      make.disabled = false;
    }
  }, { signal });
  part("[data-close]").addEventListener("click", () => dialog.close(), { signal });
  // The page and the viewer below listen to the keys of the whole document.
  dialog.addEventListener("keydown", (event) => event.stopPropagation(), { signal });
  dialog.addEventListener("close", () => now().act === act && leave(), { signal });
  dialog.showModal();
  shown?.();
  focus.focus();
}

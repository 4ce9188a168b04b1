// Start what makes new pictures of one, and go to where they appear; ask first where there is something to choose.

import { send, sentence } from "../api.js";
import { toast } from "../dom.js";
import { EMPTY, now, update } from "../state.js";
import { closeViewer } from "../viewer.js";

/** @typedef {import("../items.js").Item} Item */

/** Why nothing can be made of pictures here, from what the server says of itself; "" if it can. */
export function whyNot(/** @type {any} */ info) {
  if (info.read_only) return "This library can only be read: nothing can be made here";
  return info.generation?.available === false ? sentence(info.generation.reason) : "";
}

/** Open the dialog of an operation. */
export const ask = (/** @type {string} */ operation, /** @type {Item} */ item) =>
  update({ act: operation, of: item.key }, { keep: { act: true } });

/** Leave the dialog of an operation. */
export function leave() {
  if (!now().act) return;
  if (history.state?.act) history.back();
  else update({ act: "", of: "" }, { push: false });
}

/**
 * Start an operation on a picture and go to its run. Raises Problem if `tell` is false.
 * @param {string} operation @param {Item} item @param {Record<string, unknown>} parameters
 */
export async function start(operation, item, parameters, { tell = true } = {}) {
  const request = { operation, from: item.key, body: operation === "blend" ? parameters : { picture: item.key, ...parameters } };
  try {
    await run(request, { push: !now().act });
  } catch (error) {
    if (!tell) throw error;
    toast(/** @type {Error} */ (error).message);
  }
}

/**
 * Send a request and show its run. The entry of the history remembers the request, so that it can be made again.
 * @param {{operation: string, from: string, body: object}} request
 */
export async function run(request, { push = true } = {}) {
  const { job } = await send("POST", request.operation, request.body);
  closeViewer(true);
  update({ ...EMPTY, view: "generated", from: request.from, job: String(job) }, { push, keep: { request } });
  scrollTo({ top: 0 });
}

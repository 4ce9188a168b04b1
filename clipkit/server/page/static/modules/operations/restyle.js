// Restyle: turn what one text says into what another says.

import { isSearch, now } from "../state.js";

/** @type {import("./dialogs.js").Operation} */
export function restyle(dialog, _, signal) {
  const { from, to, amount, n } = /** @type {any} */ (dialog.querySelector("form")).elements;
  const output = /** @type {HTMLOutputElement} */ (dialog.querySelector("output"));
  // Until it is moved, the decoder's own amount holds.
  let chosen = false;
  output.textContent = "as usual";
  amount.addEventListener("input", () => {
    chosen = true;
    output.textContent = `${Math.round(100 * Number(amount.value))}%`;
  }, { signal });
  // What was searched for is probably what the picture shows.
  from.value = isSearch(now()) ? now().q.trim() : "";
  return {
    focus: from.value ? to : from,
    parameters: async () => ({
      from: from.value.trim(), to: to.value.trim(), n: Number(n.value), ...(chosen ? { amount: Number(amount.value) } : {}),
    }),
  };
}

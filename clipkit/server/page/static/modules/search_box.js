// The words of the search, which is done while they are typed.

import { byId, toast } from "./dom.js";
import { defaultWeight, hasWords, now, update } from "./state.js";

const PAUSE = 150;

/** Bring the box in line with a state, unless the user is typing in it. */
export function showWords(/** @type {import("./state.js").State} */ state) {
  const box = byId("q");
  if (box.value.trim() !== state.q.trim()) box.value = state.q;
  showTools();
}

function showTools() {
  byId("term-tools").hidden = !hasWords(byId("q").value);
}

/** Turn the words in the box into a term, wanted (1) or avoided (-1). */
export function makeTerm(/** @type {1 | -1} */ sign) {
  const value = byId("q").value.trim();
  if (!hasWords(value)) return;
  const { terms } = now();
  if (sign < 0 && !terms.some((term) => term.sign > 0)) toast("Now say what to look for instead");
  byId("q").value = "";
  const weight = sign > 0 ? now().weight : defaultWeight(sign);
  update({ view: "", q: "", weight: 1, terms: [...terms, { kind: "text", value, sign, weight, region: "" }], job: "", made: [], at: "", show: "" });
  byId("q").focus();
}

/** Listen to the box; called once. */
export function prepareSearchBox() {
  const box = /** @type {HTMLInputElement} */ (byId("q"));
  /** @type {number | undefined} */
  let waiting;
  const search = (typing = true) => {
    clearTimeout(waiting);
    const q = hasWords(box.value) ? box.value : "";
    if (q.trim() === now().q.trim() && typing) return;
    update({ view: q ? "" : now().view, q, job: "", made: [], at: "", show: "", open: "" }, { typing });
  };
  box.addEventListener("input", () => {
    showTools();
    clearTimeout(waiting);
    waiting = setTimeout(search, PAUSE);
  });
  box.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.shiftKey || event.altKey)) {
      event.preventDefault();
      clearTimeout(waiting);
      makeTerm(event.altKey ? -1 : 1);
    } else if (event.key === "Escape" && box.value) {
      event.preventDefault();
      box.value = "";
      search(false);
    } else if (event.key === "Backspace" && !box.value && now().terms.length) {
      update({ terms: now().terms.slice(0, -1), job: "", made: [] });
    }
  });
  byId("search").addEventListener("submit", (/** @type {Event} */ event) => {
    event.preventDefault();
    search(false);
    box.blur();
  });
  byId("add-term").addEventListener("click", () => makeTerm(1));
  byId("avoid-term").addEventListener("click", () => makeTerm(-1));
}

// The state of the page is its address: every view can be reloaded, linked to, and left with Back.

/**
 * One term of a search besides the words in the box.
 * @typedef {object} Term
 * @property {"text" | "picture"} kind
 * @property {string} value  words, a picture's id, "generated:ID" or "upload:ID"
 * @property {1 | -1} sign  -1: to be avoided
 * @property {number} weight
 * @property {string} region  "x,y,width,height" in pixels of the picture, or ""
 */

/**
 * @typedef {object} State
 * @property {"" | "generated"} view
 * @property {string} q  the words in the box
 * @property {number} weight  of these words
 * @property {Term[]} terms
 * @property {string} after
 * @property {string} before
 * @property {string} camera
 * @property {string} under
 * @property {string} near
 * @property {string} at  the month that the timeline shows first
 * @property {string} show  the picture that the timeline points at
 * @property {string} open  the picture in the viewer, "12" or "generated:3"
 * @property {string} act  the operation whose dialog is open: "edit", "why", ...
 * @property {string} of  the picture that it is about
 * @property {string} from  the picture that a run of an operation makes others of
 * @property {string} job  the generation in progress
 * @property {string[]} made  ids of pictures that were generated for this search, or in this run
 */

/** @type {State} */
export const EMPTY = {
  view: "", q: "", weight: 1, terms: [], after: "", before: "", camera: "", under: "", near: "",
  at: "", show: "", open: "", act: "", of: "", from: "", job: "", made: [],
};
export const FILTERS = /** @type {const} */ (["after", "before", "camera", "under", "near"]);
const NAMES = /** @type {const} */ (["view", ...FILTERS, "at", "show", "open", "act", "of", "from", "job"]);
export const WEIGHTS = [0.25, 0.5, 1, 2, 4];

/** The weight that a term has unless the user chose another. */
export const defaultWeight = (/** @type {1 | -1} */ sign) => (sign > 0 ? 1 : 0.5);

/** @returns {Term} */
export function pictureTerm(/** @type {string | number} */ id, region = "") {
  return { kind: "picture", value: String(id), sign: 1, weight: 1, region };
}

/** Whether there is anything to search for; what is only avoided does not make a search. */
export const isSearch = (/** @type {State} */ state) =>
  state.view === "" && (hasWords(state.q) || state.terms.some((term) => term.sign > 0));

/** Whether a text has a letter, a digit or a symbol such as an emoji. */
export const hasWords = (/** @type {string} */ text) => /[\p{L}\p{N}\p{So}]/u.test(text);

/** The terms in the parameters that `/api/search` takes. */
function writeTerms(/** @type {URLSearchParams} */ to, /** @type {State} */ state) {
  if (state.q.trim()) to.append("q", state.q);
  if (state.weight !== 1) to.append("q_weight", String(state.weight));
  // Those with a region come first, so that the regions need no placeholders.
  const pictures = state.terms.filter((term) => term.kind === "picture" && term.sign > 0).sort((a, b) => Number(!a.region) - Number(!b.region));
  for (const term of pictures) to.append("like", term.value);
  if (pictures.some((term) => term.weight !== 1)) for (const term of pictures) to.append("like_weight", String(term.weight));
  for (const term of pictures) if (term.region) to.append("region", term.region);
  for (const term of state.terms) if (term.kind === "text") to.append("term", `${term.value}~${term.sign * term.weight}`);
  const avoided = state.terms.filter((term) => term.kind === "picture" && term.sign < 0);
  for (const term of avoided) to.append("not", term.value.includes(":") ? term.value : `id:${term.value}`);
  if (avoided.some((term) => term.weight !== 0.5)) for (const term of avoided) to.append("not_weight", String(term.weight));
}

/** The parameters of a request for what this state searches for. */
export function searchParameters(/** @type {State} */ state) {
  const parameters = new URLSearchParams();
  writeTerms(parameters, state);
  for (const name of FILTERS) if (state[name]) parameters.append(name, state[name]);
  return parameters;
}

/** The address of a state, relative to this page. */
export function address(/** @type {State} */ state) {
  const parameters = new URLSearchParams();
  if (state.view === "") writeTerms(parameters, state);
  for (const name of NAMES) if (state[name]) parameters.append(name, state[name]);
  for (const id of state.made) parameters.append("made", id);
  const query = parameters.toString().replaceAll("%2C", ",").replaceAll("%3A", ":").replaceAll("%2F", "/");
  return query ? `./?${query}` : "./";
}

/** @returns {State} */
export function readAddress(/** @type {string} */ search) {
  const from = new URLSearchParams(search);
  const state = { ...EMPTY, terms: /** @type {Term[]} */ ([]), made: from.getAll("made") };
  for (const name of NAMES) /** @type {any} */ (state)[name] = from.get(name) ?? "";
  if (state.view !== "generated") state.view = "";
  state.q = from.get("q") ?? "";
  state.weight = positive(from.get("q_weight"), 1);
  for (const text of from.getAll("term")) {
    const tilde = text.lastIndexOf("~");
    const weight = tilde < 0 ? 1 : Number(text.slice(tilde + 1));
    const value = tilde < 0 ? text : text.slice(0, tilde);
    if (!hasWords(value)) continue;
    const sign = weight < 0 ? -1 : 1;
    state.terms.push({ kind: "text", value, sign, weight: positive(Math.abs(weight), defaultWeight(sign)), region: "" });
  }
  const [likeWeights, regions, notWeights] = [from.getAll("like_weight"), from.getAll("region"), from.getAll("not_weight")];
  from.getAll("like").forEach((value, i) => {
    state.terms.push({ ...pictureTerm(value, regions[i] ?? ""), weight: positive(likeWeights[i], 1) });
  });
  from.getAll("not").forEach((value, i) => {
    const picture = /^(id|upload|generated):/.test(value);
    state.terms.push({
      kind: picture ? "picture" : "text", value: value.replace(/^id:/, ""), sign: -1,
      weight: positive(notWeights[i], 0.5), region: "",
    });
  });
  return state;
}

const positive = (/** @type {string | number | null | undefined} */ text, /** @type {number} */ otherwise) =>
  Number(text) > 0 && Number.isFinite(Number(text)) ? Number(text) : otherwise;

/** @type {State} */
let current = readAddress(location.search);
/** @typedef {(state: State, before: State, travelled: boolean) => void} Listener */
/** @type {Listener[]} */
const listeners = [];

/** The state now. */
export const now = () => current;

/** Call `listener` after every change of the state; `travelled`: by Back or Forward. */
export const onChange = (/** @type {Listener} */ listener) => listeners.push(listener);

/**
 * Change the state and the address.
 * `push`: add an entry to the history, so that Back undoes the change. `typing`: keystrokes in a row share one entry.
 * `keep`: what the entry remembers besides the state.
 * @param {Partial<State>} patch
 * @param {{push?: boolean, typing?: boolean, keep?: Record<string, unknown>}} [how]
 */
export function update(patch, { push = true, typing = false, keep = {} } = {}) {
  const next = { ...current, ...patch };
  if (address(next) === address(current) && (typing || !history.state?.typing)) return;
  if (push && !(typing && history.state?.typing)) {
    history.pushState({ key: newKey(), typing, ...keep }, "", address(next));
  } else {
    history.replaceState({ ...history.state, key: history.state?.key ?? newKey(), typing, ...keep }, "", address(next));
  }
  change(next, false);
}

/** Go to a view of its own: what is not in `patch` is empty, except that the filters stay. */
export function visit(/** @type {Partial<State>} */ patch) {
  const kept = Object.fromEntries(FILTERS.map((name) => [name, current[name]]));
  update({ ...EMPTY, ...kept, ...patch });
}

/** Tells the entries of the history apart. */
export const newKey = () => Math.random().toString(36).slice(2);

function change(/** @type {State} */ next, /** @type {boolean} */ travelled) {
  const before = current;
  current = next;
  for (const listener of listeners) listener(next, before, travelled);
}

addEventListener("popstate", () => change(readAddress(location.search), true));

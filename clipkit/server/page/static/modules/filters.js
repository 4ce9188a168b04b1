// Filters by date, camera, folder and place.

import { get } from "./api.js";
import { byId, element } from "./dom.js";
import { Months } from "./months.js";
import { EMPTY, FILTERS, now, update } from "./state.js";
import { folderName, nextDay, previousDay } from "./terms.js";

/** The filters as an object of what is empty. */
const NONE = Object.fromEntries(FILTERS.map((name) => [name, EMPTY[name]]));
const change = (/** @type {Partial<import("./state.js").State>} */ patch) => update({ ...patch, at: "", show: "" });

/** @type {Months | null} */
let months = null;
/** What the facets on show were asked for. */
let asked = "";

/** Show or hide the filters. */
export function toggleFilters(shown = byId("filters").hidden, { focus = true } = {}) {
  byId("filters").hidden = !shown;
  byId("filters-toggle").setAttribute("aria-expanded", String(shown));
  if (shown) {
    showFilters(now());
    if (focus) byId("month-from").focus();
  }
}

/** Bring the filters in line with a state. */
export async function showFilters(/** @type {import("./state.js").State} */ state) {
  const active = FILTERS.filter((name) => state[name] && !(name === "before" && state.after)).length;
  const badge = byId("filters-count");
  badge.hidden = byId("filters-active").hidden = active === 0;
  badge.textContent = String(active);
  if (byId("filters").hidden) return;
  const fields = byId("filter-fields").elements;
  fields.after.value = state.after;
  fields.before.value = state.before && previousDay(state.before);
  const [latitude = "", longitude = "", km = ""] = state.near ? state.near.split(",") : [];
  if (!byId("place").contains(document.activeElement)) {
    [fields.latitude.value, fields.longitude.value, fields.km.value] = [latitude, longitude, km];
  }
  byId("filters-clear").disabled = active === 0;
  await loadFacets(state);
  months?.choose(state.after, state.before);
  choose(fields.camera, state.camera);
  choose(fields.under, state.under);
}

/** Months, cameras and folders of what passes the other filters; dates do not narrow the months. */
async function loadFacets(/** @type {import("./state.js").State} */ state) {
  const others = Object.fromEntries(["camera", "under", "near"].map((name) => [name, /** @type {any} */ (state)[name]]).filter(([, value]) => value));
  const key = JSON.stringify(others);
  if (key === asked) return;
  asked = key;
  const [all, facets] = await (key === "{}" ? get("facets").then((one) => [one, one]) : Promise.all([get("facets"), get("facets", others)]));
  if (key !== asked) return;
  months?.close();
  months = new Months(facets.months, (after, before) => change({ after, before }));
  const fields = byId("filter-fields").elements;
  fill(fields.camera, all.cameras.map((/** @type {any} */ one) => [one.camera, one.camera, one.count]));
  fill(fields.under, all.folders.map((/** @type {any} */ one) => [one.path, folderLabel(one.path, all.folders), one.count]));
  byId("place").hidden = !(all.located > 0 || state.near);
}

/** A folder's name, with its parent's where two are alike. */
function folderLabel(/** @type {string} */ path, /** @type {{path: string}[]} */ folders) {
  const name = folderName(path);
  const alike = folders.filter((one) => folderName(one.path) === name).length > 1;
  return alike ? path.split(/[\\/]/).filter(Boolean).slice(-2).join("/") : name;
}

function fill(/** @type {HTMLSelectElement} */ select, /** @type {[string, string, number][]} */ choices) {
  const options = choices.filter(([value]) => value).map(([value, label, count]) => {
    const option = element("option", `${label} (${count.toLocaleString("en-GB")})`);
    option.value = value;
    return option;
  });
  select.replaceChildren(select.options[0], ...options);
}

/** Choose a value, also one that an address names and no facet has. */
function choose(/** @type {HTMLSelectElement} */ select, /** @type {string} */ value) {
  if (value && ![...select.options].some((option) => option.value === value)) {
    const option = element("option", value);
    option.value = value;
    select.append(option);
  }
  select.value = value;
}

/** Listen to the fields; called once. */
export function prepareFilters() {
  const form = /** @type {HTMLFormElement} */ (byId("filter-fields"));
  const place = byId("place");
  const apply = () => {
    const { after, before, camera, under, latitude, longitude, km } = Object.fromEntries(
      [...new FormData(form)].map(([name, value]) => [name, String(value).trim()]),
    );
    const numbers = [latitude, longitude, km || "10"];
    const near = latitude && longitude && numbers.every((text) => Number.isFinite(Number(text))) ? numbers.join(",") : "";
    change({ after, before: before && nextDay(before), camera, under, near });
  };
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    apply();
  });
  // The numbers of a place count together, once the last one has been left.
  form.addEventListener("change", (event) => place.contains(/** @type {Node} */ (event.target)) || apply());
  place.addEventListener("focusout", (/** @type {FocusEvent} */ event) => place.contains(/** @type {Node} */ (event.relatedTarget)) || apply());
  byId("filters-clear").addEventListener("click", () => change(NONE));
  byId("filters-toggle").addEventListener("click", () => toggleFilters());
}

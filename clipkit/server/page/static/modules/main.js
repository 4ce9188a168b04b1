// Starts the page, and shows the view that the state names.

import { Problem, isAbort } from "./api.js";
import { prepareColourScheme } from "./colour_scheme.js";
import { announce, byId, element } from "./dom.js";
import { prepareFilters, showFilters, toggleFilters } from "./filters.js";
import { GeneratedView } from "./generated_view.js";
import { pictureAt } from "./grid.js";
import { library, picture as pictureOf } from "./library.js";
import { goToTimeline, makeReachable, prepareKeyboard } from "./keyboard.js";
import { prepareRegion } from "./region.js";
import { keepPlace, restorePlace } from "./scroll_place.js";
import { prepareSearchBox, showWords } from "./search_box.js";
import { SearchView } from "./search_view.js";
import { EMPTY, FILTERS, isSearch, now, onChange, pictureTerm, searchParameters, update, visit } from "./state.js";
import { showDialog } from "./operations/dialogs.js";
import { showMenu } from "./operations/menu.js";
import { showTerms } from "./terms.js";
import { Timeline } from "./timeline.js";
import { prepareUploads } from "./uploads.js";
import { closeViewer, gone, isOpen, view } from "./viewer.js";

/** @type {SearchView | Timeline | GeneratedView | null} */
let shown = null;
/** @type {AbortController | null} */
let request = null;
/** The view that is on show or on its way. */
let key = "";

/** What a view depends on; the rest of the state changes it in place. */
function viewKey(/** @type {import("./state.js").State} */ state) {
  if (state.view) return [state.view, state.from, state.job, ...state.made].join("\n");
  return isSearch(state) ? `search?${searchParameters(state)}` : `timeline?${FILTERS.map((name) => state[name]).join("\n")}`;
}

async function showView(/** @type {import("./state.js").State} */ state, restoring = false) {
  if (shown instanceof GeneratedView && shown.shows(state)) key = viewKey(state);
  if (viewKey(state) === key) {
    if (shown instanceof Timeline && (state.show || state.at)) await shown.goTo(state);
    return;
  }
  key = viewKey(state);
  request?.abort();
  request = new AbortController();
  const { signal } = request;
  const next = state.view ? new GeneratedView(state, signal) : isSearch(state) ? new SearchView(state, signal) : new Timeline(state, signal);
  const slow = setTimeout(() => (byId("loading").hidden = false), 120);
  const before = shown;
  let failed = false;
  try {
    await next.show(byId("results"));
  } catch (error) {
    if (isAbort(error) || signal.aborted) return;
    failed = true;
    showProblem(/** @type {Error} */ (error));
  } finally {
    clearTimeout(slow);
    if (!signal.aborted) byId("loading").hidden = true;
  }
  if (signal.aborted) return next.close();
  before?.close();
  if (failed) next.close();
  shown = failed ? null : next;
  if (!shown) return;
  makeReachable();
  if (restoring) await restorePlace(next);
  else if (!(state.show || state.at)) scrollTo({ top: 0 });
  if (now().open) openPicture(now().open);
}

function showProblem(/** @type {Error} */ error) {
  const notice = element("div", "", "notice");
  notice.setAttribute("role", "alert");
  const offline = error instanceof Problem && error.status === 0;
  const way = element("button", offline ? "Try again" : "Go to the timeline", "quiet");
  way.type = "button";
  way.addEventListener("click", () => (offline ? retry() : goToTimeline()));
  const message = `${error.message}${/[.!?]$/.test(error.message) ? "" : "."}`;
  notice.append(element("h2", offline ? "The server is away" : "That did not work"), element("p", message), way);
  byId("results").replaceChildren(notice);
  announce(message);
}

/** Ask again for what is to be shown. */
function retry() {
  key = "";
  showView(now(), true);
}

/** Look at a picture of this view, or at one that an address names and the view does not have. */
async function openPicture(/** @type {string} */ picture) {
  const wanted = now().open;
  await gone();
  if (isOpen() || !shown || now().open !== wanted) return;
  const index = shown.indexOf(picture);
  if (index >= 0) return view(shown, index);
  try {
    const item = await pictureOf(picture);
    if (now().open !== wanted) return;
    view({ length: 1, at: (i) => (i === 0 ? item : undefined), load: async () => {}, indexOf: () => 0 }, 0);
  } catch {
    if (now().open === wanted) update({ open: "" }, { push: false });
  }
}

function showBar(/** @type {import("./state.js").State} */ state) {
  showWords(state);
  showTerms(state);
  showFilters(state).catch(() => {});
  const current = state.view || (isSearch(state) ? "" : "timeline");
  for (const link of document.querySelectorAll(".views [data-nav]")) {
    if (/** @type {HTMLElement} */ (link).dataset.nav === current) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  const words = [state.q.trim(), ...state.terms.map((term) => (term.kind === "text" ? `${term.sign < 0 ? "not " : ""}${term.value}` : "a picture"))];
  const title = state.view ? "Generated" : isSearch(state) ? words.filter(Boolean).join(", ") : "Timeline";
  document.title = `${title} - clipkit`;
  byId("heading").textContent = title;
}

onChange((state, before, travelled) => {
  showBar(state);
  if (before.open && !state.open) closeViewer();
  showDialog(state);
  showView(state, travelled && before.open === state.open);
  if (state.open && !before.open && viewKey(state) === viewKey(before)) openPicture(state.open);
});

document.addEventListener("click", (event) => {
  if (!(event.target instanceof Element) || event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
  const nav = event.target.closest("[data-nav]");
  if (nav) {
    event.preventDefault();
    if (/** @type {HTMLElement} */ (nav).dataset.nav === "generated") update({ ...EMPTY, view: "generated" });
    else goToTimeline();
    return;
  }
  const item = pictureAt(event.target);
  if (!item) return;
  if (event.target.closest(".tile-more")) {
    visit({ terms: [pictureTerm(item.key)] });
  } else if (event.target.closest(".tile-menu")) {
    showMenu(item, event.target.closest(".tile-menu") ?? event.target);
  } else if (event.target.closest(".tile-link")) {
    event.preventDefault();
    openPicture(item.key);
  }
});

async function showLibrary() {
  byId("library").textContent = (await library()).library;
}

prepareColourScheme();
prepareSearchBox();
prepareUploads();
prepareFilters();
prepareRegion();
prepareKeyboard();
keepPlace();
showBar(now());
if (FILTERS.some((name) => now()[name]) && innerWidth > 900) toggleFilters(true, { focus: false });
showView(now(), true);
showDialog(now());
showLibrary().catch(() => {});

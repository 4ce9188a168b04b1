// Pictures that the user drops, pastes or chooses: they are sent once and then named by the id that the server gives.

import { send } from "./api.js";
import { byId, element, toast } from "./dom.js";
import { now, pictureTerm, update } from "./state.js";

/** The files themselves, until the page is closed. @type {Map<string, string>} */
const files = new Map();

/** A small picture of an upload, kept over a reload; "" if this browser has none. */
export const uploadThumbnail = (/** @type {string} */ reference) => sessionStorage.getItem(reference) ?? "";

/** The address of an upload's file, for as long as the page is open. */
export const uploadFile = (/** @type {string} */ reference) => files.get(reference) ?? "";

/** Add pictures to the search. */
export async function searchByFiles(/** @type {Iterable<File>} */ chosen) {
  const pictures = [...chosen].filter((file) => file.size > 0);
  if (!pictures.length) return;
  byId("loading").hidden = false;
  try {
    for (const file of pictures) {
      const form = new FormData();
      form.append("picture", file, file.name || "pasted.png");
      const { uploads } = await send("POST", "uploads", form);
      const reference = `upload:${uploads[0].upload_id}`;
      files.set(reference, URL.createObjectURL(file));
      await keepThumbnail(reference, file);
      const others = now().terms.filter((term) => term.value !== reference);
      update({ view: "", terms: [...others, pictureTerm(reference)], job: "", made: [], open: "" });
    }
  } catch (error) {
    toast(/** @type {Error} */ (error).message);
  } finally {
    byId("loading").hidden = true;
  }
}

async function keepThumbnail(/** @type {string} */ reference, /** @type {File} */ file) {
  try {
    const picture = await createImageBitmap(file);
    const scale = Math.min(1, 96 / Math.min(picture.width, picture.height));
    const canvas = element("canvas");
    [canvas.width, canvas.height] = [Math.round(picture.width * scale), Math.round(picture.height * scale)];
    canvas.getContext("2d")?.drawImage(picture, 0, 0, canvas.width, canvas.height);
    sessionStorage.setItem(reference, canvas.toDataURL("image/jpeg", 0.8));
  } catch {
    // A format that this browser cannot show, or no room: the term has an icon instead.
  }
}

const DRAGGED = "application/x-clipkit-picture";

/** Listen to drops, to pastes, and to the button for files; called once. */
export function prepareUploads() {
  const overlay = byId("drop");
  let depth = 0;
  const brings = (/** @type {DragEvent} */ event) => event.dataTransfer?.types.some((type) => type === "Files" || type === DRAGGED);
  const leave = () => {
    depth = 0;
    overlay.hidden = true;
  };
  addEventListener("dragstart", (event) => {
    const tile = event.target instanceof Element && event.target.closest(".tile");
    if (tile) event.dataTransfer?.setData(DRAGGED, /** @type {HTMLElement} */ (tile).dataset.key ?? "");
  });
  addEventListener("dragenter", (event) => {
    if (!brings(event)) return;
    event.preventDefault();
    depth += 1;
    overlay.hidden = false;
  });
  addEventListener("dragover", (event) => brings(event) && event.preventDefault());
  addEventListener("dragleave", () => --depth <= 0 && leave());
  addEventListener("dragend", leave);
  addEventListener("drop", (event) => {
    if (!brings(event)) return;
    event.preventDefault();
    leave();
    const key = event.dataTransfer?.getData(DRAGGED);
    if (key) update({ view: "", terms: [...now().terms.filter((term) => term.value !== key), pictureTerm(key)], made: [] });
    else searchByFiles(event.dataTransfer?.files ?? []);
  });
  addEventListener("paste", (event) => {
    const pasted = [...(event.clipboardData?.files ?? [])].filter((file) => file.type.startsWith("image/"));
    if (!pasted.length) return;
    event.preventDefault();
    searchByFiles(pasted);
  });
  const input = /** @type {HTMLInputElement} */ (byId("file"));
  input.addEventListener("change", async () => {
    await searchByFiles(input.files ?? []);
    input.value = "";
  });
}

// Extend: continue a picture beyond its edges, which can be dragged outwards.

const SIDES = /** @type {const} */ (["left", "right", "top", "bottom"]);
/** The share of the room that picture and edges fill, so that there is some to drag into. */
const FILLED = 0.86;
const MOST = 4096;

/** @type {import("./dialogs.js").Operation} */
export function extend(dialog, item, signal) {
  const part = (/** @type {string} */ selector) => /** @type {any} */ (dialog.querySelector(selector));
  const { elements } = part("form");
  const [stage, canvas, image] = [part("#extend-stage"), part("#extend-canvas"), part(".extend-picture")];
  const added = (/** @type {string} */ side) => Math.min(MOST, Math.max(0, Math.round(Number(elements[side].value)) || 0));
  /** Pixels of the screen for one of the picture. */
  let scale = 1;
  const draw = ({ fit = true } = {}) => {
    const [left, right, top, bottom] = SIDES.map(added);
    const [width, height] = [item.width + left + right, item.height + top + bottom];
    if (fit) scale = FILLED * Math.min(stage.clientWidth / width, stage.clientHeight / height);
    Object.assign(canvas.style, { width: `${scale * width}px`, height: `${scale * height}px` });
    Object.assign(image.style, {
      left: `${scale * left}px`, top: `${scale * top}px`, width: `${scale * item.width}px`, height: `${scale * item.height}px`,
    });
    part("#extend-size").textContent = `${item.width} \u00d7 ${item.height} becomes ${width} \u00d7 ${height}.`;
  };
  elements.left.value = elements.right.value = String(Math.max(1, Math.round(item.width / 4)));
  for (const side of SIDES) elements[side].addEventListener("input", () => draw(), { signal });
  for (const edge of dialog.querySelectorAll(".extend-edge")) drag(/** @type {HTMLElement} */ (edge));
  addEventListener("resize", () => draw(), { signal });

  function drag(/** @type {HTMLElement} */ edge) {
    const side = edge.dataset.side ?? "";
    const sideways = side === "left" || side === "right";
    const outwards = side === "left" || side === "top" ? -1 : 1;
    /** @type {{at: number, had: number} | null} */
    let from = null;
    const along = (/** @type {PointerEvent} */ event) => (sideways ? event.clientX : event.clientY);
    edge.addEventListener("pointerdown", (event) => {
      from = { at: along(event), had: added(side) };
      edge.setPointerCapture(event.pointerId);
      event.preventDefault();
    }, { signal });
    edge.addEventListener("pointermove", (event) => {
      if (!from) return;
      // The picture stays in the middle, so that the edge moves half as far as what is added.
      const more = (2 * outwards * (along(event) - from.at)) / scale;
      elements[side].value = String(Math.min(MOST, Math.max(0, Math.round(from.had + more))));
      draw({ fit: false });
    }, { signal });
    for (const name of ["pointerup", "pointercancel"]) edge.addEventListener(name, () => {
      from = null;
      draw();
    }, { signal });
  }

  return {
    image,
    focus: elements.left,
    shown: draw,
    async parameters() {
      const pixels = Object.fromEntries(SIDES.map((side) => [side, added(side)]));
      if (!SIDES.some((side) => pixels[side])) throw new Error("Say how many pixels to add on at least one side");
      return { ...pixels, ...(elements.text.value.trim() ? { text: elements.text.value.trim() } : {}) };
    },
  };
}

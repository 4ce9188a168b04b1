// Edit: paint what a text says into a part of a picture, marked by a box or with a brush.

import { send } from "../api.js";
import { Frame } from "../frame.js";
import { isTouch } from "../dom.js";
import { Brush } from "./brush.js";

const HINTS = {
  box: ["Drag over the part to repaint.", " With the keyboard, the arrows move the box and Shift with an arrow resizes it."],
  brush: ["Paint over the part to repaint.", " With the keyboard, the arrows move the brush, Space paints, and so does Shift with an arrow; + and \u2212 size it."],
};

/** @type {import("./dialogs.js").Operation} */
export function edit(dialog, item, signal) {
  const part = (/** @type {string} */ selector) => /** @type {any} */ (dialog.querySelector(selector));
  const form = part("form");
  const [box, canvas] = [part("#edit-frame"), part("#edit-brush")];
  const frame = new Frame(part("#edit-area"), box, signal);
  const brush = new Brush(canvas, part("#edit-cursor"), {
    shape: item.width / item.height,
    size: form.elements.size,
    changed: () => (part("#brush-undo").disabled = !brush.strokes.length),
    signal,
  });
  const show = () => {
    const brushing = form.elements.tool.value === "brush";
    box.hidden = brushing;
    canvas.hidden = part(".brush-tools").hidden = !brushing;
    if (!brushing) part("#edit-cursor").hidden = true;
    const [pointer, keys] = brushing ? HINTS.brush : HINTS.box;
    part("#edit-hint").textContent = pointer + (isTouch() ? "" : keys);
  };
  for (const radio of form.elements.tool) radio.addEventListener("change", show, { signal });
  part("#brush-undo").addEventListener("click", () => {
    brush.undo();
    if (!brush.strokes.length) canvas.focus();
  }, { signal });
  brush.draw();
  show();
  return {
    focus: box,
    async parameters() {
      const { text, n, tool } = form.elements;
      const common = { text: text.value.trim(), n: Number(n.value) };
      if (tool.value === "box") return { ...common, box: frame.pixels(item.width, item.height) };
      if (!brush.strokes.length) throw new Error("Paint over the part that you want to change");
      const sent = new FormData();
      sent.append("picture", await brush.mask(), "mask.png");
      const { uploads } = await send("POST", "uploads", sent);
      return { ...common, mask: `upload:${uploads[0].upload_id}` };
    },
  };
}

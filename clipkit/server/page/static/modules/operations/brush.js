// Paint a mask over a picture with a brush, by pointer or by keyboard.

/** The longer side of the mask in pixels; it is scaled to the picture where it is used. */
const SIDE = 1024;

/** @typedef {{width: number, points: [number, number][]}} Stroke */

export class Brush {
  /**
   * @param {HTMLCanvasElement} canvas  over the picture
   * @param {HTMLElement} cursor  shows where the brush is and how large
   * @param {{shape: number, size: HTMLInputElement, changed: () => void, signal: AbortSignal}} options
   *   `shape`: width / height of the picture; `size`: of the brush, in percent of the shorter side
   */
  constructor(canvas, cursor, { shape, size, changed, signal }) {
    this.canvas = canvas;
    this.cursor = cursor;
    this.size = size;
    this.changed = changed;
    /** @type {Stroke[]} */
    this.strokes = [];
    [canvas.width, canvas.height] = [Math.round(SIDE * Math.min(1, shape)), Math.round(SIDE * Math.min(1, 1 / shape))];
    /** @type {[number, number]} */
    this.at = [canvas.width / 2, canvas.height / 2];
    let painting = false;
    canvas.addEventListener("pointerdown", (event) => {
      if (event.button) return;
      painting = true;
      canvas.setPointerCapture(event.pointerId);
      event.preventDefault();
      canvas.focus({ preventScroll: true });
      this.move(this.place(event));
      this.dab();
    }, { signal });
    canvas.addEventListener("pointermove", (event) => {
      // A fast hand moves far between two frames; the browser keeps what lay between.
      const moves = painting ? (event.getCoalescedEvents?.() ?? []) : [];
      for (const one of moves.length ? moves : [event]) {
        this.move(this.place(one));
        if (painting) this.line();
      }
    }, { signal });
    for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, () => (painting = false), { signal });
    for (const name of ["pointerenter", "focus"]) canvas.addEventListener(name, () => this.showCursor(true), { signal });
    canvas.addEventListener("pointerleave", () => this.showCursor(document.activeElement === canvas), { signal });
    canvas.addEventListener("blur", () => this.showCursor(false), { signal });
    canvas.addEventListener("keydown", (event) => this.key(event), { signal });
    size.addEventListener("input", () => this.move(this.at), { signal });
  }

  /** The width of a stroke in pixels of the mask. */
  get width() {
    return (Number(this.size.value) / 100) * Math.min(this.canvas.width, this.canvas.height);
  }

  /** @returns {[number, number]} */
  place(/** @type {PointerEvent} */ event) {
    const box = this.canvas.getBoundingClientRect();
    return [((event.clientX - box.left) / box.width) * this.canvas.width, ((event.clientY - box.top) / box.height) * this.canvas.height];
  }

  move(/** @type {[number, number]} */ [x, y]) {
    this.at = [Math.min(this.canvas.width, Math.max(0, x)), Math.min(this.canvas.height, Math.max(0, y))];
    const share = (/** @type {number} */ value, /** @type {number} */ whole) => `${(100 * value) / whole}%`;
    Object.assign(this.cursor.style, {
      left: share(this.at[0], this.canvas.width), top: share(this.at[1], this.canvas.height), width: share(this.width, this.canvas.width),
    });
  }

  showCursor(/** @type {boolean} */ shown) {
    this.cursor.hidden = !shown;
    this.move(this.at);
  }

  /** Begin a stroke here. */
  dab() {
    this.strokes.push({ width: this.width, points: [this.at] });
    this.draw();
  }

  /** Go on with the stroke to here. */
  line() {
    this.strokes.at(-1)?.points.push(this.at);
    this.draw();
  }

  undo() {
    this.strokes.pop();
    this.draw();
  }

  key(/** @type {KeyboardEvent} */ event) {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    const far = 0.03 * Math.min(this.canvas.width, this.canvas.height);
    if (step) {
      if (event.shiftKey && !event.repeat) this.dab();
      this.move([this.at[0] + step[0] * far, this.at[1] + step[1] * far]);
      if (event.shiftKey) this.line();
    } else if (event.key === " ") this.dab();
    else if (event.key === "Backspace" || event.key === "Delete") this.undo();
    else if (event.key === "+") this.size.stepUp(2);
    else if (event.key === "-") this.size.stepDown(2);
    else return;
    event.preventDefault();
    this.move(this.at);
  }

  draw() {
    const context = /** @type {CanvasRenderingContext2D} */ (this.canvas.getContext("2d"));
    context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    this.paint(context, "#d61fb8");
    this.changed();
  }

  paint(/** @type {CanvasRenderingContext2D} */ context, /** @type {string} */ colour) {
    Object.assign(context, { strokeStyle: colour, lineCap: "round", lineJoin: "round" });
    for (const { width, points } of this.strokes) {
      context.lineWidth = width;
      context.beginPath();
      context.moveTo(...points[0]);
      // A line that goes nowhere is drawn as a dot.
      for (const point of points) context.lineTo(...point);
      context.stroke();
    }
  }

  /** @returns {Promise<Blob>} The mask as a PNG file: white where it was painted. */
  async mask() {
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [this.canvas.width, this.canvas.height];
    const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
    context.fillRect(0, 0, canvas.width, canvas.height);
    this.paint(context, "#fff");
    return new Promise((resolve, reject) => canvas.toBlob((blob) => (blob ? resolve(blob) : reject(new Error("the mask could not be made"))), "image/png"));
  }
}

// A frame over a picture, drawn by pointer or moved and resized by keyboard.

const SMALLEST = 0.05;
const START = [0.25, 0.25, 0.5, 0.5];

const limit = (/** @type {number} */ value, /** @type {number} */ low, /** @type {number} */ high) => Math.min(high, Math.max(low, value));

export class Frame {
  /**
   * @param {HTMLElement} area  what the picture fills
   * @param {HTMLElement} box  the frame itself, which takes the keys; while it is hidden, nothing can be drawn
   * @param {AbortSignal} [signal]  ends it
   */
  constructor(area, box, signal) {
    this.area = area;
    this.box = box;
    /** In shares of the picture: left, top, width, height. */
    this.shares = START;
    this.draw();
    /** @type {[number, number] | null} */
    let from = null;
    area.addEventListener("pointerdown", (event) => {
      if (box.hidden || event.button) return;
      from = this.place(event);
      area.setPointerCapture(event.pointerId);
      event.preventDefault();
      box.focus({ preventScroll: true });
    }, { signal });
    area.addEventListener("pointermove", (event) => from && this.span(from, this.place(event)), { signal });
    for (const name of ["pointerup", "pointercancel"]) area.addEventListener(name, () => (from = null), { signal });
    box.addEventListener("keydown", (event) => this.key(event), { signal });
  }

  /** Show a region "x,y,width,height" in pixels of a picture of this size, or the start if it is "". */
  show(/** @type {string} */ region, /** @type {number} */ width, /** @type {number} */ height) {
    const numbers = region.split(",").map(Number);
    this.shares = numbers.length === 4 ? [numbers[0] / width, numbers[1] / height, numbers[2] / width, numbers[3] / height] : START;
    this.draw();
  }

  /** The frame in pixels of a picture of this size: x, y, width, height. */
  pixels(/** @type {number} */ width, /** @type {number} */ height) {
    const [x, y] = [Math.round(this.shares[0] * width), Math.round(this.shares[1] * height)];
    const [w, h] = [Math.round(this.shares[2] * width), Math.round(this.shares[3] * height)];
    return [x, y, Math.max(1, Math.min(w, width - x)), Math.max(1, Math.min(h, height - y))];
  }

  draw() {
    const [left, top, width, height] = this.shares.map((share) => `${(100 * share).toFixed(2)}%`);
    Object.assign(this.box.style, { left, top, width, height });
  }

  /** @returns {[number, number]} */
  place(/** @type {PointerEvent} */ event) {
    const box = this.area.getBoundingClientRect();
    return [limit((event.clientX - box.left) / box.width, 0, 1), limit((event.clientY - box.top) / box.height, 0, 1)];
  }

  span(/** @type {[number, number]} */ from, /** @type {[number, number]} */ to) {
    const [left, top] = [Math.min(from[0], to[0]), Math.min(from[1], to[1])];
    const [width, height] = [Math.abs(from[0] - to[0]), Math.abs(from[1] - to[1])];
    if (width < SMALLEST / 2 && height < SMALLEST / 2) return;
    this.shares = [Math.min(left, 1 - SMALLEST), Math.min(top, 1 - SMALLEST), Math.max(width, SMALLEST), Math.max(height, SMALLEST)];
    this.draw();
  }

  key(/** @type {KeyboardEvent} */ event) {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (!step) return;
    event.preventDefault();
    const [dx, dy] = step.map((direction) => direction * 0.02);
    const [left, top, width, height] = this.shares;
    this.shares = event.shiftKey
      ? [left, top, limit(width + dx, SMALLEST, 1 - left), limit(height + dy, SMALLEST, 1 - top)]
      : [limit(left + dx, 0, 1 - width), limit(top + dy, 0, 1 - height), width, height];
    this.draw();
  }
}

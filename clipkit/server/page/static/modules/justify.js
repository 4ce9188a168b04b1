// Rows of equal width: which picture ends a row, and how wide each is.

export const GAP = 6;
/** The room around a grid for the ring of focus, as in pictures.css. */
const PADDING = 4;
const NARROWEST = 0.45;
const WIDEST = 3.2;

/** The shape that a picture is shown in, width / height; panoramas and slips are cut to a limit. */
export const shape = (/** @type {{width: number, height: number}} */ item) =>
  Math.min(WIDEST, Math.max(NARROWEST, item.width / item.height));

/** The height that rows aim for. */
export const rowHeight = (/** @type {number} */ width) => (width < 480 ? 116 : width < 900 ? 168 : width < 1500 ? 208 : 236);

/**
 * Break shapes into rows whose heights are as near as possible to the one aimed for, by dynamic programming as TeX
 * breaks paragraphs (Knuth & Plass, "Breaking paragraphs into lines", 1981).
 * @param {number[]} shapes
 * @param {number} width  of a row, in pixels
 * @param {boolean} full  whether the last row must be as wide as the others
 * @returns {{end: number, height: number, loose: boolean}[]}  the rows; `end` is the index after the last picture, and
 *   `loose` says that the row is not full
 */
export function breakRows(shapes, width, full, target = rowHeight(width)) {
  const best = [0, ...Array(shapes.length).fill(Infinity)];
  const from = Array(shapes.length + 1).fill(0);
  const heights = Array(shapes.length + 1).fill(target);
  for (let end = 1; end <= shapes.length; end++) {
    let sum = 0;
    for (let start = end - 1; start >= 0; start--) {
      sum += shapes[start];
      const height = (width - GAP * (end - start - 1)) / sum;
      const loose = !full && end === shapes.length && height > target;
      const cost = best[start] + (loose ? 0 : badness(height / target));
      if (cost < best[end]) [best[end], from[end], heights[end]] = [cost, start, loose ? target : height];
      if (height < target * 0.5) break;
    }
  }
  const rows = [];
  for (let end = shapes.length; end > 0; end = from[end]) rows.unshift({ end, height: heights[end], loose: false });
  const [above, last] = [rows.at(-2), rows.at(-1)];
  if (last && !full && last.height === target) {
    last.loose = true;
    // It looks best as high as the row above it, as far as it fits.
    const own = shapes.slice(above?.end ?? 0);
    const fitting = (width - GAP * (own.length - 1)) / own.reduce((sum, one) => sum + one, 0);
    if (above) last.height = Math.min(above.height, fitting);
  }
  return rows;
}

/** Twice as high is as bad as half as high. */
const badness = (/** @type {number} */ ratio) => Math.log(ratio) ** 2;

/** Give every tile of a grid its width; `flex-grow` takes up the rest of a row. */
export function justify(/** @type {HTMLElement} */ grid, /** @type {number[]} */ shapes, /** @type {boolean} */ full) {
  const width = grid.clientWidth - 2 * PADDING;
  if (width <= 0) return;
  let start = 0;
  for (const { end, height, loose } of breakRows(shapes, width, full)) {
    for (let i = start; i < end; i++) {
      const tile = /** @type {HTMLElement} */ (grid.children[i]);
      tile.style.setProperty("--row", `${height.toFixed(2)}px`);
      // Half a pixel less, so that rounding never pushes the last picture of a row into the next one.
      tile.style.flexBasis = `${Math.max(1, shapes[i] * height - 0.5).toFixed(2)}px`;
      tile.style.flexGrow = loose ? "0" : String(shapes[i]);
    }
    start = end;
  }
}

/** About how high a grid of `count` pictures will be, before their shapes are known. */
export function estimatedHeight(/** @type {number} */ count, /** @type {number} */ width) {
  const height = rowHeight(width);
  const perRow = Math.max(1, Math.round(width / (height * 1.4 + GAP)));
  return Math.ceil(count / perRow) * (height + GAP);
}

// A histogram of months, of which a range can be brushed.

import { byId, element } from "./dom.js";
import { count, monthName, nextMonth } from "./items.js";

const LONGEST = 12 * 200;

export class Months {
  /**
   * @param {{month: string | null, count: number}[]} counts
   * @param {(after: string, before: string) => void} chosen  called with "" for an end that is open
   */
  constructor(counts, chosen) {
    this.chosen = chosen;
    const byMonth = new Map(counts.flatMap((one) => (one.month ? [[one.month, one.count]] : [])));
    const dated = /** @type {string[]} */ ([...byMonth.keys()].sort());
    /** @type {{month: string, count: number}[]} */
    this.months = [];
    for (let month = dated[0]; month && month <= /** @type {string} */ (dated.at(-1)) && this.months.length < LONGEST; month = nextMonth(month)) {
      this.months.push({ month, count: byMonth.get(month) ?? 0 });
    }
    this.stop = new AbortController();
    this.draw();
    this.listen();
  }

  get last() {
    return Math.max(0, this.months.length - 1);
  }

  draw() {
    byId("months").hidden = this.months.length === 0;
    const most = Math.max(1, ...this.months.map((one) => one.count));
    byId("months-bars").replaceChildren(
      ...this.months.map((one) => {
        const bar = element("div", "", "bar-month");
        bar.title = `${monthName(one.month)}: ${count(one.count, "picture")}`;
        // The square root keeps small months visible beside large ones.
        bar.style.setProperty("--share", one.count ? Math.max(0.04, Math.sqrt(one.count / most)).toFixed(3) : "0");
        return bar;
      }),
    );
    byId("months-first").textContent = this.months.length ? monthName(this.months[0].month, true) : "";
    byId("months-last").textContent = this.months.length ? monthName(this.months[this.last].month, true) : "";
    for (const id of ["month-from", "month-to"]) byId(id).max = String(this.last);
  }

  /** Show a range of dates. */
  choose(/** @type {string} */ after, /** @type {string} */ before) {
    const from = after ? this.months.findIndex((one) => `${nextMonth(one.month)}-01` > after) : 0;
    const to = before ? this.months.findLastIndex((one) => `${one.month}-01` < before) : this.last;
    this.mark(from < 0 ? this.last : from, to < 0 ? 0 : to, Boolean(after || before));
  }

  mark(/** @type {number} */ from, /** @type {number} */ to, active = true) {
    [byId("month-from").value, byId("month-to").value] = [String(from), String(to)];
    for (const [id, index] of [["month-from", from], ["month-to", to]]) {
      const month = this.months[Number(index)]?.month;
      byId(String(id)).setAttribute("aria-valuetext", month ? monthName(month) : "");
    }
    byId("months").classList.toggle("is-chosen", active);
    [...byId("months-bars").children].forEach((bar, i) => bar.classList.toggle("is-out", active && (i < from || i > to)));
    const pictures = this.months.slice(from, to + 1).reduce((sum, one) => sum + one.count, 0);
    const [first, last] = [this.months[from]?.month, this.months[to]?.month];
    const range = first === last ? monthName(first ?? null, true) : `${monthName(first ?? null, true)} to ${monthName(last ?? null, true)}`;
    byId("months-chosen").textContent = active && first ? `${range}, ${count(pictures, "picture")}` : "";
  }

  commit(/** @type {number} */ from, /** @type {number} */ to) {
    const [first, last] = [Math.min(from, to), Math.max(from, to)];
    const whole = first === 0 && last === this.last;
    this.mark(first, last, !whole);
    this.chosen(whole ? "" : `${this.months[first].month}-01`, whole ? "" : `${nextMonth(this.months[last].month)}-01`);
  }

  listen() {
    const bars = byId("months-bars");
    const { signal } = this.stop;
    /** @type {number | null} */
    let from = null;
    let to = 0;
    const under = (/** @type {PointerEvent} */ event) => {
      const box = bars.getBoundingClientRect();
      return Math.min(this.last, Math.max(0, Math.floor(((event.clientX - box.left) / box.width) * this.months.length)));
    };
    bars.addEventListener("pointerdown", (/** @type {PointerEvent} */ event) => {
      if (!this.months.length) return;
      from = to = under(event);
      bars.setPointerCapture(event.pointerId);
      this.mark(from, to);
    }, { signal });
    bars.addEventListener("pointermove", (/** @type {PointerEvent} */ event) => {
      if (from === null) return;
      to = under(event);
      this.mark(Math.min(from, to), Math.max(from, to));
    }, { signal });
    bars.addEventListener("pointerup", () => {
      if (from !== null) this.commit(from, to);
      from = null;
    }, { signal });
    bars.addEventListener("pointercancel", () => (from = null), { signal });
    for (const id of ["month-from", "month-to"]) {
      byId(id).addEventListener("input", () => {
        const ends = [Number(byId("month-from").value), Number(byId("month-to").value)];
        this.mark(Math.min(...ends), Math.max(...ends));
      }, { signal });
      byId(id).addEventListener("change", () => this.commit(Number(byId("month-from").value), Number(byId("month-to").value)), { signal });
    }
  }

  close() {
    this.stop.abort();
  }
}

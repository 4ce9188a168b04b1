// Why a picture was found: how far it shows the search and each part of it, where, and the concepts nearest to both.

import { get, isAbort, sentence } from "../api.js";
import { element } from "../dom.js";
import { confidenceWord, percent } from "../items.js";
import { now, searchParameters } from "../state.js";

/** From cold to hot, red, green and blue. */
const COLOURS = [[41, 17, 92], [122, 28, 109], [207, 68, 70], [251, 155, 6], [252, 255, 164]];

/** @type {import("./dialogs.js").Operation} */
export function why(dialog, item, signal) {
  const part = (/** @type {string} */ selector) => /** @type {any} */ (dialog.querySelector(selector));
  const [canvas, range] = [part("#why-heat"), part("#why-strength input")];
  const show = () => canvas.style.setProperty("opacity", range.value);
  range.addEventListener("input", show, { signal });
  show();
  canvas.hidden = part("#why-seen").hidden = part("#why-strength").hidden = part("#why-parts").hidden = true;
  part("#why-concepts").replaceChildren();
  part("#why-notes").replaceChildren();
  part("#why-score").textContent = "Looking at the parts of the picture\u2026";
  const [kind, id] = item.generated ? ["generated", item.id] : ["images", item.id];
  get(`${kind}/${id}/explain`, searchParameters(now()), signal).then(
    (found) => {
      part("#why-score").textContent =
        `${confidenceWord(found.confidence)} what you asked for: ${percent(found.confidence)}, with a similarity of ${found.score.toFixed(3)}.`;
      draw(canvas, found.heat);
      const [left, top, right, bottom] = found.seen;
      Object.assign(part("#why-seen").style, {
        left: `${100 * left}%`, top: `${100 * top}%`, width: `${100 * (right - left)}%`, height: `${100 * (bottom - top)}%`,
      });
      part("#why-seen").hidden = right - left > 0.99 && bottom - top > 0.99;
      canvas.hidden = part("#why-strength").hidden = false;
      showParts(part("#why-parts"), found, (heat) => draw(canvas, heat), signal);
      const groups = [
        ["In both", found.shared_concepts], ["Your search", found.query_concepts], ["This picture", found.picture_concepts],
      ];
      part("#why-concepts").replaceChildren(...groups.filter(([, concepts]) => concepts?.length).map(([title, concepts]) => group(title, concepts)));
      part("#why-notes").replaceChildren(...(found.notes ?? []).map((/** @type {string} */ note) => element("li", sentence(note))));
    },
    (error) => {
      if (isAbort(error)) return;
      part("#why-score").textContent = "";
      part(".operation-error").textContent = error.message;
      part(".operation-error").hidden = false;
    },
  );
  return { focus: part("[data-close]"), parameters: async () => ({}) };
}

/** A choice between the whole search and its parts, if it has several: the heat map shows the one that is chosen. */
function showParts(
  /** @type {HTMLElement} */ box, /** @type {any} */ found, /** @type {(heat: number[][]) => void} */ chosen, /** @type {AbortSignal} */ signal,
) {
  const parts = found.parts ?? [];
  box.hidden = parts.length === 0;
  box.querySelectorAll("label").forEach((one) => one.remove());
  const choices = [["All of it", found.confidence, found.heat]];
  for (const one of parts) choices.push([`${one.avoided ? "not " : ""}${one.text}`, one.confidence, one.heat]);
  choices.forEach(([text, confidence, heat], i) => {
    const [label, radio, shown] = [element("label"), element("input"), element("span", `${text} `)];
    Object.assign(radio, { type: "radio", name: "part", checked: i === 0 });
    radio.addEventListener("change", () => chosen(heat), { signal });
    shown.append(element("span", percent(confidence), "why-number"));
    label.append(radio, shown);
    box.append(label);
  });
}

function group(/** @type {string} */ title, /** @type {{concept: string, score: number}[]} */ concepts) {
  const whole = element("section", "", "why-group");
  const list = element("ul");
  for (const { concept, score } of concepts) {
    const line = element("li");
    line.append(element("span", concept), element("span", score.toFixed(2), "why-number"));
    list.append(line);
  }
  whole.append(element("h3", title), list);
  return whole;
}

/** Draw the heat, rows of numbers from 0 to 1; what is cold stays as it is. The browser smooths it as it scales it. */
function draw(/** @type {HTMLCanvasElement} */ canvas, /** @type {number[][]} */ heat) {
  [canvas.width, canvas.height] = [heat[0].length, heat.length];
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  const pixels = context.createImageData(canvas.width, canvas.height);
  heat.flat().forEach((value, i) => pixels.data.set([...colour(value), Math.round(255 * Math.min(1, 1.25 * value))], 4 * i));
  context.putImageData(pixels, 0, 0);
}

function colour(/** @type {number} */ value) {
  const at = Math.min(0.9999, Math.max(0, value)) * (COLOURS.length - 1);
  const [low, high, share] = [COLOURS[Math.floor(at)], COLOURS[Math.floor(at) + 1], at % 1];
  return low.map((channel, i) => Math.round(channel + share * (high[i] - channel)));
}

// What the server says about itself and its library, asked once.

import { get } from "./api.js";

/** @type {Promise<any> | null} */
let asked = null;

/** @returns {Promise<any>} The answer of `/api/info`. */
export const library = () => (asked ??= get("info"));

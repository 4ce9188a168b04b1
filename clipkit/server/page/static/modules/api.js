// Calls of the HTTP API.

/** What the server answered instead, as problem details (RFC 9457). */
export class Problem extends Error {
  /** @param {string} message @param {number} status */
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

/** Whether a request was given up because a newer one replaced it. */
export const isAbort = (/** @type {unknown} */ error) => error instanceof DOMException && error.name === "AbortError";

/**
 * @param {string} path  such as "search", below api/
 * @param {URLSearchParams | Record<string, string | number>} [parameters]
 * @param {AbortSignal} [signal]
 */
export async function get(path, parameters, signal) {
  const query = new URLSearchParams(/** @type {any} */ (parameters)).toString();
  return answer(await request(`api/${path}${query ? `?${query}` : ""}`, { signal }));
}

/**
 * Send a call that changes something; a form is sent as it is, anything else as JSON.
 * @param {"POST" | "DELETE"} method @param {string} path @param {FormData | object} [body] @param {AbortSignal} [signal]
 */
export async function send(method, path, body, signal) {
  const form = body instanceof FormData;
  return answer(await request(`api/${path}`, {
    method,
    // A page of another origin cannot set this header without the server's consent.
    headers: { "X-Clipkit": "1", ...(body && !form ? { "Content-Type": "application/json" } : {}) },
    body: form ? body : body && JSON.stringify(body),
    signal,
  }));
}

async function request(/** @type {string} */ path, /** @type {RequestInit} */ options) {
  try {
    return await fetch(path, { credentials: "same-origin", priority: "high", ...options });
  } catch (error) {
    if (isAbort(error)) throw error;
    throw new Problem("The server does not answer. Is clipkit serve still running?", 0);
  }
}

async function answer(/** @type {Response} */ response) {
  const json = (response.headers.get("Content-Type") ?? "").includes("json");
  const body = json ? await response.json() : {};
  if (!response.ok) throw new Problem(sentence(body.detail || body.title || `the server answered ${response.status}`), response.status);
  return body;
}

/** Return a message with a capital at its start. */
export const sentence = (/** @type {string} */ text) => text.charAt(0).toUpperCase() + text.slice(1);

// Talking to the service: JSON there and back, and its problems as errors.

const CSRF = document.querySelector('meta[name="csrf-token"]').content;

export class Problem extends Error {
  constructor(body, after = 0) {
    super(body.detail ?? "the service gave no reason");
    this.status = body.status; // 0: it did not answer
    this.present = body.present; // of a conflict: how it stands now
    this.after = after; // seconds to wait, where it says so
  }
}

export async function ask(path, options = {}) {
  let answer;
  try {
    const headers = { Accept: "application/json", "X-CSRF-Token": CSRF, ...options.headers };
    answer = await fetch(path, { ...options, headers });
  } catch {
    throw new Problem({ status: 0, detail: "the service does not answer; is it running? Try again" });
  }
  const body = await answer.json().catch(() => (answer.ok ? null : { status: answer.status }));
  if (body === null) throw new Problem({ status: 0, detail: "the answer broke off, or is somebody else's" });
  if (answer.status === 401) location.assign(`/login?next=${encodeURIComponent(location.pathname + location.search)}`);
  if (!answer.ok) throw new Problem(body, Number(answer.headers.get("Retry-After")) || 0);
  return body;
}

// What tells a request from every other. (crypto.randomUUID is missing where a page is not secure.)
export const freshKey = () =>
  Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");

export const post = (path, body, headers = {}) =>
  ask(path, { method: "POST", headers: { "Content-Type": "application/json", ...headers }, body: JSON.stringify(body) });

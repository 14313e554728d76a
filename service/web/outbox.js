// Decisions on their way. What a reviewer decides is kept here first, survives a reload, and is sent,
// one after the other, until the service has answered. Each carries an Idempotency-Key, so that what
// is sent twice is recorded once.

import { Problem, ask, freshKey, post } from "./ask.js";

const WHO = document.querySelector('meta[name="reviewer"]').content;
const PREFIX = `toploss.out.${WHO}.`; // nobody sends what another has decided
const MOST = 500; // decisions in one request
const PATIENCE_S = [0.3, 1, 2, 4, 8]; // between tries

export class Outbox {
  #waiting; // oldest first
  #sending = null;
  #timer = 0;
  #failed = 0; // tries in a row

  // changed(state): how it stands. sent(entry, answer). refused(entry, problem): it will not be
  // recorded, and is here no more.
  constructor({ changed, sent, refused }) {
    Object.assign(this, { changed, sent, refused });
    this.#waiting = kept();
    addEventListener("online", () => this.flush());
    this.flush();
  }

  get entries() {
    return [...this.#waiting];
  }

  decide(body, text) {
    return this.#put({ kind: "decide", body, text });
  }

  // Many at once: all of them are kept before the first is sent.
  decideAll(decisions, order) {
    for (let first = 0; first < decisions.length; first += MOST)
      this.#put({ kind: "bulk", body: { decisions: decisions.slice(first, first + MOST), order } });
  }

  // `of`: a decision that was answered, by its id, or one that still waits, by its key.
  undo({ id, key, sample, text }) {
    const place = this.#waiting.findIndex((entry) => entry.key === key);
    if (place >= 0 && this.#waiting[place] !== this.#sending && !this.#waiting[place].tried) {
      this.#forget(this.#waiting[place]); // it never left
      this.#tell();
      return null;
    }
    return this.#put({ kind: "undo", id, of: key, body: { sample }, text });
  }

  flush() {
    clearTimeout(this.#timer);
    if (!this.#sending) this.#send();
  }

  #put(entry) {
    const whole = { ...entry, key: freshKey(), at: Date.now() + this.#waiting.length / 1000 };
    keep(whole);
    this.#waiting.push(whole);
    this.#tell();
    this.flush();
    return whole.key;
  }

  async #send() {
    const entry = this.#waiting[0];
    if (!entry) return this.#tell();
    this.#sending = entry;
    entry.tried = true;
    keep(entry);
    try {
      const answer = await transmitted(entry);
      this.#failed = 0;
      this.#forget(entry);
      for (const later of this.#waiting) if (later.of === entry.key) keep(Object.assign(later, { id: answer.id }));
      this.sent(entry, answer);
    } catch (problem) {
      if (!(problem instanceof Problem)) throw problem;
      if (mayHeal(problem)) return this.#later(problem);
      this.#failed = 0;
      this.#forget(entry);
      this.refused(entry, problem);
    } finally {
      this.#sending = null;
    }
    this.#tell();
    this.#send();
  }

  #later(problem) {
    const wait = problem.after || PATIENCE_S[Math.min(this.#failed, PATIENCE_S.length - 1)];
    this.#failed += 1;
    this.#tell();
    this.#timer = setTimeout(() => this.flush(), 1000 * wait);
  }

  #forget(entry) {
    this.#waiting = this.#waiting.filter((other) => other !== entry);
    try {
      localStorage.removeItem(PREFIX + entry.key);
    } catch {
      // it was not kept either
    }
  }

  #tell() {
    this.changed({ waiting: this.#waiting.flatMap(samplesOf).length, failed: this.#failed });
  }
}

// The samples that an entry speaks of.
export const samplesOf = ({ body }) => (body.decisions ?? [body]).map(({ sample }) => sample);

// 403: the session is another one than the page's; a reload heals it, and the entry outlives that.
const mayHeal = ({ status }) => [0, 401, 403, 408, 429].includes(status) || status >= 500;

async function transmitted(entry) {
  if (entry.kind === "undo") {
    if (!entry.id) throw new Problem({ status: 404, detail: "what should be undone was not recorded" });
    return ask(`/v1/decisions/${entry.id}`, { method: "DELETE" });
  }
  if (entry.kind === "bulk") {
    const answers = await post("/v1/decisions/bulk", entry.body, { "Idempotency-Key": entry.key });
    if (Array.isArray(answers)) return answers;
    throw new Problem({ status: 0, detail: "the answer is none of the service's" });
  }
  const answer = await post("/v1/decisions", entry.body, { "Idempotency-Key": entry.key });
  if (!answer.id) throw new Problem({ status: 0, detail: "the answer is none of the service's" });
  return answer;
}

function keep(entry) {
  try {
    localStorage.setItem(PREFIX + entry.key, JSON.stringify(entry));
  } catch {
    // A browser without storage: it lasts as long as the page.
  }
}

function readable(name) {
  try {
    return JSON.parse(localStorage.getItem(name));
  } catch {
    return null; // one that is broken spoils no other
  }
}

function kept() {
  try {
    return Object.keys(localStorage)
      .filter((name) => name.startsWith(PREFIX))
      .map(readable)
      .filter(Boolean)
      .sort((one, other) => one.at - other.at);
  } catch {
    return [];
  }
}

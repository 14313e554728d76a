// Decisions on their way. What a reviewer decides is kept here first, survives a reload, and is sent,
// one after the other, until the service has answered. Each carries an Idempotency-Key, so that what
// is sent twice is recorded once.

import { Problem, ask, post } from "./ask.js";

const PREFIX = "toploss.out.";
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
    const whole = { ...entry, key: crypto.randomUUID(), at: Date.now() + this.#waiting.length / 1000 };
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
    this.changed({ waiting: this.#waiting.length, failed: this.#failed });
  }
}

const mayHeal = ({ status }) => status === 0 || status === 401 || status === 429 || status >= 500;

function transmitted(entry) {
  if (entry.kind === "undo") {
    if (!entry.id) throw new Problem({ status: 404, detail: "what should be undone was not recorded" });
    return ask(`/v1/decisions/${entry.id}`, { method: "DELETE" });
  }
  return post("/v1/decisions", entry.body, { "Idempotency-Key": entry.key });
}

function keep(entry) {
  try {
    localStorage.setItem(PREFIX + entry.key, JSON.stringify(entry));
  } catch {
    // A browser without storage: it lasts as long as the page.
  }
}

function kept() {
  try {
    return Object.keys(localStorage)
      .filter((name) => name.startsWith(PREFIX))
      .map((name) => JSON.parse(localStorage.getItem(name)))
      .sort((one, other) => one.at - other.at);
  } catch {
    return [];
  }
}

// What there is to judge a sample by, read once it has been looked at for a moment.

import { ask } from "./ask.js";
import { $, element, percent, thumbnail } from "./dom.js";

const PAUSE_MS = 150; // whoever goes by faster needs none

export class Evidence {
  #item; // what is looked at; undefined: nothing was yet
  #timer = 0;
  near = false; // neighbours are shown

  show(item) {
    if (item === this.#item) return;
    this.#item = item;
    for (const id of ["top", "nearest", "alike", "history"]) $(id).replaceChildren();
    $("why").textContent = "";
    $("alike-box").hidden = true;
    if (item) $("whole").href = `/samples/${item.id}`;
    $("evidence").hidden = !item || item.blind;
    clearTimeout(this.#timer);
    if (item && !item.blind) this.#timer = setTimeout(() => this.#read(item), PAUSE_MS);
  }

  toggleNear(on = !this.near) {
    this.near = on;
    $("neighbours").hidden = !on;
    $("near").setAttribute("aria-pressed", String(on));
    if (on && this.#item) this.#neighbours(this.#item);
  }

  async #read(item) {
    const [found, events] = await Promise.all([
      ask(`/v1/samples/${item.id}/evidence`).catch(() => null),
      ask(`/v1/samples/${item.id}/history`).catch(() => null),
    ]);
    if (item !== this.#item) return;
    if (found?.evidence) this.#said(found.evidence);
    else $("why").textContent = "The model says nothing of it: it came later, or its class is new.";
    $("history").replaceChildren(...(events?.items ?? []).map(told));
    if (this.near) this.#neighbours(item);
  }

  #said(evidence) {
    $("top").replaceChildren(...evidence.top.map((guess) => bar(guess, evidence.label)));
    $("why").textContent = `${evidence.why[0].toUpperCase()}${evidence.why.slice(1)}.`;
  }

  async #neighbours(item) {
    const found = await ask(`/v1/samples/${item.id}/neighbours`).catch(() => null);
    if (item !== this.#item || !found) return;
    const none = element("li", { textContent: "none known", className: "soft" });
    $("nearest").replaceChildren(...(found.items.length ? found.items.map((like) => shown(like, item)) : [none]));
    $("alike").replaceChildren(...found.duplicates.map((like) => shown(like, item)));
    $("alike-box").hidden = found.duplicates.length === 0;
  }
}

function bar(guess, label) {
  const meter = element("meter", { min: 0, max: 1, value: guess.confidence, textContent: percent(guess.confidence) });
  const name = guess.label === label ? `${guess.label} (given)` : guess.label;
  meter.setAttribute("aria-label", `Probability of ${name}`);
  return element("li", {}, element("span", { textContent: name }), meter, element("span", { className: "number", textContent: percent(guess.confidence) }));
}

function shown(like, item) {
  const same = like.label === item.label;
  const words = element("span", { textContent: same ? like.label : `≠ ${like.label}` });
  const entry = element("li", { className: same ? "" : "other" }, thumbnail(like), words);
  const similarity = like.similarity === null ? "" : `, similarity ${like.similarity.toFixed(2)}`;
  entry.title = `${like.label}, ${like.split}${similarity}${like.state === "excluded" ? ", excluded" : ""}`;
  return entry;
}

const SAID = {
  add: "came in as", label: "imported as", conflict: "came again as", confirm: "kept as",
  relabel: "relabelled", exclude: "excluded, was", skip: "skipped, stays", undo: "undone, again",
};

function told(event) {
  const when = new Date(event.at).toLocaleString();
  return element("li", { textContent: `${SAID[event.action] ?? event.action} ${event.label} · ${event.actor}, ${when}` });
}

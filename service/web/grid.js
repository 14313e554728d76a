// Many samples at once: what is alike is judged side by side. Only what was selected by hand is
// decided. After the ARIA pattern of a listbox: arrows move, Space selects, Shift takes the range.

import { ask } from "./ask.js";
import { $, agrees, element, option, percent, say, thumbnail } from "./dom.js";

const PAGE = 60;

export class Grid {
  #items = [];
  #selected = new Set();
  #cursor = null;
  #anchor = 0;
  #list = 0; // grows with every other list

  // decide(decisions, order): said of the selected samples. hidden(id, listed): whether a sample is
  // left out, as the feed has it.
  constructor(decide, hidden) {
    Object.assign(this, { decide, hidden });
    $("tiles").addEventListener("click", (event) => this.#clicked(event));
    $("tiles").addEventListener("keydown", (event) => this.#pressed(event));
    $("more").addEventListener("click", () => this.#read().catch(complain));
    $("select-all").addEventListener("click", () => this.#select(0, this.#items.length - 1));
    $("select-none").addEventListener("click", () => this.#clear());
    $("bulk-keep").addEventListener("click", () => this.#decide("confirm"));
    $("bulk-exclude").addEventListener("click", () => this.#decide("exclude"));
    $("bulk-suggest").addEventListener("click", () => this.#decide("relabel", (item) => item.predicted));
    $("bulk-relabel").addEventListener("click", () => {
      const label = $("bulk-label").value;
      if (label) this.#decide("relabel", () => label);
    });
    $("bulk-label").addEventListener("change", () => this.#tell());
  }

  set names(names) {
    $("bulk-label").replaceChildren(option("", "label…"), ...names.map((name) => option(name, name)));
  }

  // Nothing is selected that another list would make forgotten.
  get idle() {
    return this.#selected.size === 0;
  }

  async load(filters) {
    this.#list += 1;
    this.filters = filters;
    this.#items = [];
    this.#anchor = 0;
    this.#cursor = null;
    this.#selected.clear();
    $("tiles").replaceChildren();
    await this.#read();
  }

  async #read() {
    const list = this.#list;
    const first = this.#items.length;
    let items;
    do {
      const query = new URLSearchParams({ ...this.filters, limit: PAGE, ...(this.#cursor && { cursor: this.#cursor }) });
      const page = await ask(`/v1/top-losses?${query}`);
      if (list !== this.#list) return; // another was asked for meanwhile
      items = page.items.filter((item) => !this.hidden(item.id, this.filters.state));
      this.#cursor = page.next_cursor;
    } while (items.length === 0 && this.#cursor);
    this.#items.push(...items);
    $("tiles").append(...items.map((item, place) => tile(item, first + place)));
    $("more").hidden = !this.#cursor;
    this.#focus(first ? first : 0, first > 0);
    this.#tell();
  }

  #clicked(event) {
    const place = placeOf(event.target);
    if (place === null) return;
    if (event.shiftKey) this.#select(this.#anchor, place);
    else this.#toggle(place);
    this.#focus(place);
  }

  #pressed(event) {
    const place = placeOf(event.target);
    if (place === null) return;
    const row = columns();
    const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: row, ArrowUp: -row }[event.key];
    const to = { Home: 0, End: this.#items.length - 1 }[event.key] ?? (step === undefined ? null : place + step);
    if (to !== null && to >= 0 && to < this.#items.length) {
      event.preventDefault();
      if (event.shiftKey) this.#select(this.#anchor, to);
      this.#focus(to);
    } else if (event.key === " ") {
      event.preventDefault();
      if (event.shiftKey) this.#select(this.#anchor, place);
      else this.#toggle(place);
    } else if (event.key === "Escape") this.#clear();
  }

  #toggle(place) {
    const item = this.#items[place];
    if (!this.#selected.delete(item)) this.#selected.add(item);
    this.#anchor = place;
    this.#mark();
  }

  #select(from, to) {
    for (let place = Math.min(from, to); place <= Math.max(from, to); place += 1) this.#selected.add(this.#items[place]);
    this.#mark();
  }

  #clear() {
    this.#selected.clear();
    this.#mark();
  }

  #mark() {
    [...$("tiles").children].forEach((line, place) =>
      line.setAttribute("aria-selected", String(this.#selected.has(this.#items[place]))),
    );
    this.#tell();
  }

  #focus(place, really = document.activeElement?.closest?.("#tiles") !== null) {
    [...$("tiles").children].forEach((line, at) => (line.tabIndex = at === place ? 0 : -1));
    if (really) $("tiles").children[place]?.focus();
  }

  #tell() {
    const number = this.#selected.size;
    $("selected").textContent = number ? `${number} selected` : "None selected";
    for (const id of ["bulk-keep", "bulk-exclude"]) $(id).disabled = number === 0;
    $("bulk-suggest").disabled = number === 0 || [...this.#selected].every(agrees);
    $("bulk-relabel").disabled = number === 0 || !$("bulk-label").value;
    $("select-all").disabled = this.#items.length === 0;
    $("select-none").disabled = number === 0;
  }

  #decide(action, label = null) {
    const chosen = [...this.#selected].filter((item) => !label || label(item) !== item.label);
    if (!chosen.length) return say("The selected samples have that label already.");
    const spoken = chosen.map((item) => ({
      sample: item.id, action, revision: item.revision, ...(item.rank && { rank: item.rank }), ...(label && { label: label(item) }),
    }));
    this.decide(spoken, this.filters.order ?? "loss");
    say(`${spoken.length} decided.`);
    this.#drop(new Set(chosen));
  }

  #drop(gone) {
    this.#items = this.#items.filter((item) => !gone.has(item));
    this.#selected.clear();
    this.#anchor = 0;
    $("tiles").replaceChildren(...this.#items.map(tile));
    this.#focus(0, true);
    this.#tell();
  }
}

function tile(item, place) {
  const words = agrees(item) ? item.label : `${item.label} → ${item.predicted}`;
  const line = element("li", { tabIndex: -1, className: "tile" }, thumbnail(item, 192), element("span", { textContent: words }));
  line.setAttribute("role", "option");
  line.setAttribute("aria-selected", "false");
  line.setAttribute("aria-label", `${place + 1}: given ${item.label}, predicted ${item.predicted}, ${percent(item.confidence)}`);
  line.dataset.place = place;
  return line;
}

const placeOf = (target) => {
  const line = target.closest(".tile");
  return line ? Number(line.dataset.place) : null;
};

const columns = () => getComputedStyle($("tiles")).gridTemplateColumns.split(" ").length;

const complain = (problem) => say(`${problem.message}.`, true);

// The list that is gone through: what comes next, read ahead, so that nobody waits for a picture.

import { ask, post } from "./ask.js";
import { crisp } from "./dom.js";

const PAGE = 40; // samples read at a time
const LOW = 15; // fewer than this ahead: read on
const AHEAD = 10; // pictures that are ready before they are asked for

export class Feed {
  items = [];
  at = 0;
  total = null; // of the whole list; null where too many names begin alike
  model = undefined; // the version whose list it is
  note = null; // why production has none
  #cursor = null;
  #more = true;
  #reading = null;
  #list = 0; // grows with every other list
  #pictures = new Map(); // path → an image that is loaded, or loads

  // decided(id, listed): whether a sample is left out, since it was decided here; `listed`: of a list
  // that decided ones are part of.
  constructor(decided, changed) {
    Object.assign(this, { decided, changed });
  }

  get current() {
    return this.items[this.at];
  }

  // Read the list from its top. `select`: the sample to look at, wherever it is.
  async load(filters, select = null) {
    const list = (this.#list += 1);
    this.filters = filters;
    this.#reading = null;
    const query = new URLSearchParams({ ...filters, limit: 1 });
    const [page, head] = await Promise.all([this.#page(null), ask(`/v1/top-losses?${query}`)]);
    if (list !== this.#list) return; // another was asked for meanwhile
    Object.assign(this, { items: [], at: 0, total: head.total, model: head.model, note: head.note });
    this.#take(page);
    const found = this.items.findIndex((item) => item.id === select);
    this.at = Math.max(0, found);
    if (select && found < 0) {
      const item = await sample(select).catch(() => null);
      if (item && item.state !== "excluded" && !this.decided(select, filters.state)) this.items.unshift(item);
    }
    this.changed();
  }

  // Look at these and no others: what is still being read of a list is for nobody.
  replace(items, total) {
    this.#list += 1;
    this.#reading = this.#cursor = null;
    this.#more = false;
    Object.assign(this, { items, total, at: 0, filters: {} });
    this.changed();
  }

  // Take what is looked at out of the list; what follows takes its place.
  drop() {
    const [item] = this.items.splice(this.at, 1);
    if (this.total) this.total -= 1;
    this.at = Math.min(this.at, Math.max(0, this.items.length - 1));
    this.#readOn();
    return item;
  }

  // Put a sample before what is looked at, and look at it.
  put(item) {
    this.items = this.items.filter((other) => other.id !== item.id);
    this.at = Math.min(this.at, this.items.length);
    this.items.splice(this.at, 0, item);
    this.changed();
  }

  go(step) {
    this.at = Math.max(0, Math.min(this.items.length - 1, this.at + step));
    this.#readOn();
    this.changed();
  }

  // The picture of an item; those that follow are read as well.
  picture(item) {
    const wanted = this.items.slice(this.at, this.at + 1 + AHEAD).map((one) => one.image);
    for (const path of [item.image, ...wanted])
      if (!this.#pictures.has(path) || failed(this.#pictures.get(path))) this.#pictures.set(path, loaded(path));
    const keep = new Set([item.image, ...wanted, ...this.items.slice(Math.max(0, this.at - 2), this.at).map((one) => one.image)]);
    for (const path of this.#pictures.keys()) if (!keep.has(path)) this.#pictures.delete(path);
    return this.#pictures.get(item.image);
  }

  #readOn() {
    if (this.#more && this.items.length - this.at < LOW) return this.more();
  }

  more() {
    const list = this.#list;
    this.#reading ??= this.#page(this.#cursor)
      .then((page) => {
        if (list !== this.#list) return;
        this.#take(page);
        this.changed();
      })
      .catch(() => null) // asked again at the next step
      .finally(() => list === this.#list && (this.#reading = null));
    return this.#reading;
  }

  // Of pending samples only those that nobody else looks at.
  #page(cursor) {
    const { state, ...listing } = this.filters;
    if (!state) return post("/v1/claims", { ...listing, number: PAGE, ...(cursor && { cursor }) });
    return ask(`/v1/top-losses?${new URLSearchParams({ ...this.filters, limit: PAGE, ...(cursor && { cursor }) })}`);
  }

  #take(page) {
    const known = new Set(this.items.map((item) => item.id));
    this.items.push(...page.items.filter((item) => !known.has(item.id) && !this.decided(item.id, this.filters.state)));
    this.#cursor = page.next_cursor;
    this.#more = Boolean(page.next_cursor);
  }
}

// A sample as the list would show it, wherever it stands.
export async function sample(id) {
  const [row, found] = await Promise.all([ask(`/v1/samples/${id}`), ask(`/v1/samples/${id}/evidence`)]);
  const said = found.evidence;
  return {
    ...row,
    predicted: said?.top[0].label ?? row.label,
    confidence: said?.top[0].confidence ?? null,
    loss: said?.loss ?? null,
    rank: null,
  };
}

export const failed = (picture) => picture.complete && picture.naturalWidth === 0;

function loaded(path) {
  const picture = new Image();
  picture.decoding = "sync"; // it is there when it is shown
  picture.addEventListener("load", crisp);
  picture.src = path;
  picture.decode().catch(() => null);
  return picture;
}

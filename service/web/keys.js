// What each key does: shown by `?`, to be switched off, to be given other keys.

import { $, element } from "./dom.js";

const STORED = "toploss.keys";

const DEFAULTS = [
  ["keep", "Enter", "Keep the label"],
  ["suggest", "s", "Take the suggestion"],
  ["relabel", "/", "Choose another label"],
  ["exclude", "x", "Exclude the sample"],
  ["skip", " ", "Skip"],
  ["undo", "u", "Undo"],
  ["next", "ArrowRight", "Next, undecided"],
  ["previous", "ArrowLeft", "Previous"],
  ["grid", "g", "Grid or one at a time"],
  ["zoom", "z", "Zoom"],
  ["heat", "h", "Heat map"],
  ["near", "n", "Neighbours"],
  ["help", "?", "These keys"],
];
const FIXED = new Set(["help"]); // so that there is always a way back
const NAMES = { " ": "Space", ArrowRight: "→", ArrowLeft: "←", ArrowUp: "↑", ArrowDown: "↓" };

const named = (key) => NAMES[key] ?? (key.length === 1 ? key.toUpperCase() : key);
const plain = (key) => (key.length === 1 ? key.toLowerCase() : key);

export class Keys {
  #bound; // action → key
  #on;
  #listening = null; // the action that is given another key

  // acts: action → what it does. digit(n): a figure was pressed.
  constructor(acts, digit) {
    Object.assign(this, { acts, digit });
    const stored = read();
    this.#on = stored.on ?? true;
    this.#bound = { ...Object.fromEntries(DEFAULTS), ...stored.bound };
    document.addEventListener("keydown", (event) => this.#pressed(event));
    $("keys-on").addEventListener("change", (event) => this.#set({ on: event.target.checked }));
    $("keys-reset").addEventListener("click", () => this.#set({ bound: Object.fromEntries(DEFAULTS) }));
    $("help").addEventListener("close", () => this.#listen(null));
    this.#show();
  }

  help() {
    if (!$("help").open) $("help").showModal();
  }

  #pressed(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (this.#listening) return this.#give(event);
    if (!this.#on || event.repeat || $("help").open) return;
    const where = event.target instanceof Element ? event.target : document.body;
    if (where.matches("input, select, textarea, [role=combobox]")) {
      if (event.key === "Escape") where.blur();
      return;
    }
    const own = event.key === "Enter" || event.key === " "; // of what has the focus
    if (own && where.matches("button, a, summary, [role=option]")) return;
    if (/^[0-9]$/.test(event.key)) return void (event.preventDefault(), this.digit(event.key));
    const found = Object.entries(this.#bound).find(([, key]) => plain(key) === plain(event.key));
    if (!found) return;
    if (where.closest("[role=listbox]") && event.key.startsWith("Arrow")) return; // the grid's own
    event.preventDefault();
    this.acts[found[0]]();
  }

  #give(event) {
    if (["Shift", "Tab"].includes(event.key)) return;
    event.preventDefault();
    event.stopPropagation();
    const action = this.#listening;
    this.#listening = null;
    if (event.key === "Escape" || /^[0-9]$/.test(event.key)) return this.#show();
    const taken = Object.entries(this.#bound).find(([other, key]) => plain(key) === plain(event.key) && other !== action);
    if (taken && FIXED.has(taken[0])) return this.#show();
    const bound = { ...this.#bound, [action]: plain(event.key) };
    if (taken) bound[taken[0]] = this.#bound[action]; // they change places
    this.#set({ bound });
    $(`key-${action}`)?.focus();
  }

  #listen(action) {
    this.#listening = action;
    this.#show();
    if (action) $(`key-${action}`).focus();
  }

  #set({ on = this.#on, bound = this.#bound }) {
    this.#on = on;
    this.#bound = bound;
    try {
      localStorage.setItem(STORED, JSON.stringify({ on, bound }));
    } catch {
      // It lasts as long as the page.
    }
    this.#show();
  }

  #show() {
    $("keys-on").checked = this.#on;
    for (const mark of document.querySelectorAll("kbd[data-key]")) {
      mark.textContent = named(this.#bound[mark.dataset.key]);
      mark.hidden = !this.#on;
    }
    for (const button of document.querySelectorAll("[aria-keyshortcuts]")) {
      const { key } = button.querySelector("kbd").dataset;
      const bound = this.#bound[key];
      // Spelled as WAI-ARIA has it; nothing while they are off.
      button.setAttribute("aria-keyshortcuts", this.#on ? (bound === " " ? "Space" : bound) : "");
    }
    const rows = DEFAULTS.map(([action, , text]) => this.#row(action, text));
    rows.push(element("tr", {}, element("th", { scope: "row", textContent: "Give a label: as the lists number them" }), element("td", { textContent: "0 – 9" })));
    $("keys").replaceChildren(...rows);
  }

  #row(action, text) {
    const waits = this.#listening === action;
    const button = element("button", { type: "button", id: `key-${action}`, className: "small", disabled: FIXED.has(action) });
    button.textContent = waits ? "press a key…" : named(this.#bound[action]);
    button.setAttribute("aria-label", waits ? `${text}: press a key` : `${text}: ${named(this.#bound[action])}; change`);
    button.addEventListener("click", () => this.#listen(action));
    return element("tr", {}, element("th", { scope: "row", textContent: text }), element("td", {}, button));
  }
}

function read() {
  try {
    return JSON.parse(localStorage.getItem(STORED)) ?? {};
  } catch {
    return {};
  }
}

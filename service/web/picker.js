// Choosing a label by typing: a combobox after the ARIA Authoring Practices' pattern.

import { element } from "./dom.js";

const SHOWN = 50;

export class Picker {
  #names = [];
  #found = [];
  #at = 0;

  // chosen(name): a label was taken.
  constructor(input, list, chosen) {
    Object.assign(this, { input, list, chosen });
    input.addEventListener("input", () => this.#show());
    input.addEventListener("focus", () => this.#show());
    input.addEventListener("blur", () => this.#close());
    input.addEventListener("keydown", (event) => this.#pressed(event));
    list.addEventListener("mousedown", (event) => {
      event.preventDefault(); // the input keeps the focus
      const place = [...list.children].indexOf(event.target.closest("li"));
      if (place >= 0) this.#take(place);
    });
  }

  set names(names) {
    this.#names = names;
  }

  // What a figure stands for: the class of that name, else so far down the list.
  digit(figure) {
    if (this.#names.includes(figure)) return figure;
    return this.#names[figure === "0" ? 9 : Number(figure) - 1];
  }

  #pressed(event) {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step && this.#found.length) {
      event.preventDefault();
      this.#at = (this.#at + step + this.#found.length) % this.#found.length;
      this.#mark();
    } else if (event.key === "Enter") {
      event.preventDefault();
      if (this.#found.length) this.#take(this.#at);
    } else if (event.key === "Escape") {
      event.stopPropagation();
      this.input.value = "";
      this.input.blur();
    }
  }

  #take(place) {
    const name = this.#found[place];
    this.input.value = "";
    this.input.blur();
    this.chosen(name);
  }

  #show() {
    const wanted = this.input.value.trim().toLowerCase();
    const begins = this.#names.filter((name) => name.toLowerCase().startsWith(wanted));
    const within = this.#names.filter((name) => name.toLowerCase().includes(wanted) && !begins.includes(name));
    this.#found = [...begins, ...within].slice(0, SHOWN);
    this.#at = 0;
    this.list.replaceChildren(
      ...this.#found.map((name, place) => {
        const line = element("li", { id: `${this.list.id}-${place}`, textContent: name });
        line.setAttribute("role", "option");
        return line;
      }),
    );
    this.list.hidden = this.#found.length === 0;
    this.input.setAttribute("aria-expanded", String(!this.list.hidden));
    this.#mark();
  }

  #mark() {
    [...this.list.children].forEach((line, place) => line.setAttribute("aria-selected", String(place === this.#at)));
    const marked = this.list.children[this.#at];
    if (marked) this.input.setAttribute("aria-activedescendant", marked.id);
    else this.input.removeAttribute("aria-activedescendant");
    marked?.scrollIntoView({ block: "nearest" });
  }

  #close() {
    this.list.hidden = true;
    this.input.setAttribute("aria-expanded", "false");
    this.input.removeAttribute("aria-activedescendant");
  }
}

// Decisions that came too late: somebody had changed the sample meanwhile. They are shown one after
// the other, as the sample stands now, with a way to it.

import { $ } from "./dom.js";

export class Conflicts {
  #waiting = []; // samples as they stand, oldest first

  // look(sample): somebody wants to see it.
  constructor(look) {
    $("present-look").addEventListener("click", () => {
      const now = this.#waiting.shift();
      this.#show();
      look(now);
    });
  }

  add(present) {
    this.#waiting.push(present);
    this.#show();
  }

  #show() {
    const [now] = this.#waiting;
    $("present").hidden = !now;
    if (!now) return;
    const stands = now.state === "active" ? `labelled ${now.label}` : now.state;
    const number = this.#waiting.length - 1;
    const more = number ? ` So ${number > 1 ? "were" : "was"} ${number} more.` : "";
    $("present-text").textContent = `Not recorded: sample ${now.id.slice(0, 8)} was changed meanwhile and is now ${stands}, at revision ${now.revision}.${more}`;
  }
}

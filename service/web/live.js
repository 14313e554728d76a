// What changes on a page by itself. Parts that are marked `data-live` are taken from the page as the
// server makes it now; parts that are marked `data-part` come after the page.

import { $ } from "/web/dom.js";

async function read(path) {
  const answer = await fetch(path).catch(() => null);
  if (answer === null) throw new Error("The service does not answer; is it running?");
  if (answer.status === 401) location.assign(`/login?next=${encodeURIComponent(location.pathname + location.search)}`);
  if (!answer.ok) throw new Error((await answer.json().catch(() => ({}))).detail ?? `The service answered ${answer.status}.`);
  return answer.text();
}

export async function refresh() {
  const page = new DOMParser().parseFromString(await read(location.href), "text/html");
  for (const fresh of page.querySelectorAll("[data-live]")) {
    const shown = $(fresh.id);
    if (shown && shown.innerHTML !== fresh.innerHTML) replace(shown, fresh.innerHTML);
  }
  return pause(page);
}

function replace(shown, html) {
  // A log that is looked at from its end stays there.
  const atEnd = shown.scrollTop + shown.clientHeight >= shown.scrollHeight - 4;
  shown.innerHTML = html;
  if (shown.matches(".log") && atEnd) shown.scrollTop = shown.scrollHeight;
}

// Milliseconds until the next look; none: nothing changes by itself.
const pause = (page) => Number(page.querySelector("[data-poll]")?.dataset.poll ?? 0);

async function follow() {
  let wait = pause(document);
  while (wait) {
    await new Promise((done) => setTimeout(done, wait));
    if (document.hidden) continue;
    try {
      wait = await refresh();
      $("offline").hidden = true;
    } catch (error) {
      $("offline").textContent = `${error.message} Trying again.`;
      $("offline").hidden = false;
    }
  }
}

async function fill(part) {
  part.setAttribute("aria-busy", "true");
  try {
    part.innerHTML = await read(part.dataset.part);
  } catch (error) {
    const told = document.createElement("p");
    told.className = "wrong";
    told.textContent = `This could not be read: ${error.message}`;
    const again = document.createElement("button");
    again.textContent = "Try again";
    again.addEventListener("click", () => fill(part));
    part.replaceChildren(told, again);
  }
  part.removeAttribute("aria-busy");
}

for (const log of document.querySelectorAll(".log")) log.scrollTop = log.scrollHeight;
for (const part of document.querySelectorAll("[data-part]")) fill(part);
follow();

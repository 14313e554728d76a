// Buttons that change something: each asks first, in a dialog, and tells what came of it.

import { post } from "/web/ask.js";
import { $ } from "/web/dom.js";
import { refresh } from "/web/live.js";

const short = (name) => `…${name.slice(-8)}`;

const DONE = {
  promote: (answer) => `Version ${short(answer.version)} is in production, generation ${answer.generation}. Servers follow within seconds.`,
  rollback: (answer) => `Production is back at version ${short(answer.version)}, generation ${answer.generation}. Automatic retraining is paused.`,
  retrain: (answer) => `Run ${short(answer.id)} is ${answer.state}.`,
  pause: () => "Automatic retraining is paused.",
  resume: () => "Runs start by themselves again.",
  cancel: (answer) => (answer.state === "cancelled" ? "The run is cancelled." : "The run was asked to stop; it ends within seconds."),
};

let act = null; // what the open dialog asks about

function open(button) {
  act = button.dataset;
  $("act-title").textContent = act.title;
  $("act-text").textContent = act.text;
  $("act-go").textContent = act.verb;
  $("act-why").hidden = !("reason" in act);
  $("act-reason").disabled = !("reason" in act); // hidden, it must not be asked for
  $("act-reason").value = "";
  $("act-problem").textContent = "";
  $("act").showModal();
}

async function go(event) {
  event.preventDefault();
  $("act-go").disabled = true;
  try {
    const said = "reason" in act ? { reason: $("act-reason").value.trim() } : {};
    if (act.generation) said.generation = Number(act.generation); // that the dialog spoke of
    const answer = await post(act.path, said);
    $("act").close();
    $("message").textContent = DONE[act.act](answer);
    await refresh().catch(() => {}); // it is done, whether it can be shown or not
    // The button may be gone.
    if (document.activeElement === document.body) $("message").focus();
  } catch (problem) {
    $("act-problem").textContent = problem.message;
  } finally {
    $("act-go").disabled = false;
  }
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-act]");
  if (button) open(button);
});
$("act").addEventListener("submit", go);
$("act-close").addEventListener("click", () => $("act").close());

// The review: one sample at a time, worst first. The server is the truth; what is kept here is the
// page of the list that is being gone through, and the way back.

const PAGE = 24; // samples read at a time
const LOW = 8; // fewer than this left: read again
const POLL_MS = 3000;
const TINY = 96; // pixels; smaller pictures are shown crisp

const CSRF = document.querySelector('meta[name="csrf-token"]').content;

const $ = (id) => document.getElementById(id);

const state = {
  items: [], // pending, in order
  at: 0, // which of them is looked at
  left: 0, // pending in the whole list
  all: 0, // decided ones included
  model: null, // the version whose losses these are
  done: [], // decisions that can be taken back, the last one last
  keys: new Map(), // decision → its Idempotency-Key, kept until it is answered
  busy: false,
};

// --- talking to the server

class Problem extends Error {
  constructor(body) {
    super(body.detail ?? "the service gave no reason");
    this.status = body.status;
    this.present = body.present;
  }
}

async function ask(path, options = {}) {
  let answer;
  try {
    const headers = { Accept: "application/json", "X-CSRF-Token": CSRF, ...options.headers };
    answer = await fetch(path, { ...options, headers });
  } catch {
    throw new Problem({ status: 0, detail: "the service does not answer; is it running? Try again" });
  }
  const body = await answer.json().catch(() => ({ status: answer.status }));
  if (answer.status === 401) location.assign(`/login?next=${encodeURIComponent(location.pathname)}`);
  if (!answer.ok) throw new Problem(body);
  return body;
}

const filters = () => {
  const chosen = { label: $("filter-label").value, predicted: $("filter-predicted").value };
  return Object.fromEntries(Object.entries(chosen).filter(([, value]) => value));
};

async function load(select = null) {
  const query = new URLSearchParams(filters());
  const [pending, all] = await Promise.all([
    ask(`/v1/top-losses?limit=${PAGE}&${query}`),
    ask(`/v1/top-losses?limit=1&state=all&${query}`),
  ]);
  Object.assign(state, { items: pending.items, left: pending.total, all: all.total, model: pending.model });
  const found = state.items.findIndex((item) => item.id === select);
  state.at = Math.max(0, found);
  show();
}

async function loadClasses() {
  const names = (await ask("/v1/classes")).items.map((entry) => entry.name);
  for (const [id, first] of [["filter-label", "any label"], ["filter-predicted", "any label"], ["relabel-to", "another label…"]]) {
    const chosen = $(id).value;
    $(id).replaceChildren(option("", first), ...names.map((name) => option(name, name)));
    $(id).value = names.includes(chosen) ? chosen : "";
  }
}

async function loadDone() {
  const events = (await ask("/v1/decisions?limit=50")).items;
  const undone = new Set(events.map((event) => event.undoes));
  state.done = events
    .filter((event) => event.action !== "undo" && !undone.has(event.id))
    .map((event) => ({ id: event.id, sample: event.sample, text: event.action }))
    .reverse();
}

// --- deciding

const current = () => state.items[state.at];

async function decide(action, label = null) {
  const item = current();
  if (!item || state.busy) return;
  const body = { sample: item.id, action, revision: item.revision, list: filters() };
  if (label !== null) body.label = label;
  const what = JSON.stringify(body);
  if (!state.keys.has(what)) state.keys.set(what, crypto.randomUUID());
  await busily(async () => {
    try {
      const answer = await ask("/v1/decisions", {
        method: "POST",
        headers: { "Content-Type": "application/json", "Idempotency-Key": state.keys.get(what) },
        body: what,
      });
      state.keys.delete(what);
      decided(item, answer, action, label);
    } catch (problem) {
      if (problem.status) state.keys.delete(what); // it was answered; without an answer the same key goes again
      if (problem.status !== 409 && problem.status !== 404) throw problem;
      await load();
      throw problem;
    }
  });
}

function decided(item, answer, action, label) {
  const text = { confirm: `kept as ${item.label}`, relabel: `now ${label}`, exclude: "excluded", skip: "skipped" }[action];
  state.done.push({ id: answer.id, sample: item.id, text });
  state.items.splice(state.at, 1);
  state.left -= 1;
  if (state.items.length === 0 && answer.next) state.items = [answer.next];
  state.at = Math.min(state.at, Math.max(0, state.items.length - 1));
  say(`Sample ${item.id.slice(0, 8)} ${text}.`);
  show();
  if (state.items.length < LOW && state.items.length < state.left) load(current()?.id).catch(complain);
  watch();
}

async function undo() {
  const last = state.done.at(-1);
  if (state.busy) return;
  if (!last) return say("There is nothing to undo.");
  await busily(async () => {
    try {
      await ask(`/v1/decisions/${last.id}`, { method: "DELETE" });
      say(`Taken back: sample ${last.sample.slice(0, 8)} was ${last.text}.`);
    } finally {
      state.done.pop();
    }
    await load(last.sample);
    watch();
  });
}

async function busily(work) {
  state.busy = true;
  try {
    await work();
  } catch (problem) {
    complain(problem);
  } finally {
    state.busy = false;
    enable();
  }
}

// --- showing

function show() {
  const item = current();
  $("sample").hidden = !item;
  $("empty").hidden = Boolean(item);
  $("counts").textContent = state.all ? `${state.left} left of ${state.all}` : "";
  if (item) showItem(item);
  else showEmpty();
  showStrip();
  enable();
}

function showItem(item) {
  const picture = $("picture");
  if (picture.getAttribute("src") !== item.image) picture.src = item.image;
  picture.alt = `Sample given as ${item.label}, predicted as ${item.predicted}`;
  $("rank").textContent = `${state.all - state.left + state.at + 1} of ${state.all}`;
  $("split").textContent = `${item.split} split`;
  $("label").textContent = item.label;
  $("predicted").textContent = item.predicted;
  $("confidence").textContent = percent(item.confidence);
  $("loss").textContent = item.loss.toFixed(2);
  $("suggest-text").textContent = agrees(item) ? "Model agrees" : `Use ${item.predicted}`;
  $("relabel-to").value = "";
  for (const next of state.items.slice(state.at + 1, state.at + 4)) new Image().src = next.image;
}

function showEmpty() {
  const [title, text] = emptiness();
  $("empty-title").textContent = title;
  $("empty-text").textContent = text;
}

function emptiness() {
  if (state.model === null)
    return ["No model yet", "Train one with “toploss train”. What it is most wrong about will be listed here."];
  if (Object.keys(filters()).length) return ["Nothing here", "No pending sample has these labels. Choose others above."];
  if (state.all === 0) return ["Nothing to review", "The model has no held-out sample yet. Import more images and train again."];
  return ["Nothing left to review", `All ${state.all} samples are decided. The next model brings a new list.`];
}

function showStrip() {
  $("strip").replaceChildren(
    ...state.items.map((item, index) => {
      const picture = element("img", { src: `${item.thumbnail}?size=128`, alt: "", loading: "lazy" });
      picture.addEventListener("load", crisp);
      const button = element("button", { type: "button" });
      button.append(picture, agrees(item) ? item.label : `${item.label} → ${item.predicted}`);
      button.setAttribute("aria-label", `Number ${index + 1}: given ${item.label}, predicted ${item.predicted}`);
      if (index === state.at) button.setAttribute("aria-current", "true");
      button.addEventListener("click", () => {
        state.at = index;
        show();
        $("actions").focus({ preventScroll: true }); // so that Enter keeps it, and does not pick it again
      });
      const place = document.createElement("li");
      place.append(button);
      return place;
    }),
  );
}

function enable() {
  const item = current();
  for (const id of ["keep", "exclude", "skip"]) $(id).disabled = !item;
  $("suggest").disabled = !item || agrees(item);
  $("relabel").disabled = !item || !$("relabel-to").value;
  $("undo").disabled = $("undo-empty").disabled = state.done.length === 0;
  $("undo-empty").hidden = state.done.length === 0;
}

function say(text, wrong = false) {
  $("message").textContent = text;
  $("message").classList.toggle("error", wrong);
}

function complain(problem) {
  const now = problem.present;
  if (now?.label) {
    const stands = now.state === "excluded" ? "excluded" : `labelled ${now.label}`;
    say(`Not recorded: sample ${now.id.slice(0, 8)} was changed meanwhile and is now ${stands}, at revision ${now.revision}.`, true);
  } else say(`${problem.message}.`, true);
  if (!(problem instanceof Problem)) console.error(problem);
}

// --- the next retraining

async function watch() {
  if (document.hidden) return;
  try {
    const [data, found, versions] = await Promise.all([
      ask("/v1/dataset"), ask("/v1/retrainings?limit=1"), ask("/v1/models?limit=1"),
    ]);
    showRetraining(data.retraining, found.items[0]);
    const production = versions.production;
    $("model").textContent = production ? `version ${production.version.slice(-8)}, generation ${production.generation}` : "";
    if (production && production.version !== state.model && !state.busy) {
      await Promise.all([load(current()?.id), loadClasses()]);
      say("A new model serves; this is its list.");
    }
  } catch (problem) {
    $("retraining").textContent = problem.message;
  }
}

function showRetraining(due, run) {
  const active = run && ["queued", "leased", "running"].includes(run.state);
  $("changes").hidden = Boolean(active) || due.paused;
  $("changes").max = due.needed;
  $("changes").value = Math.min(due.changed, due.needed);
  if (active) $("retraining").textContent = `Retraining: ${progress(run)}`;
  else if (due.paused) $("retraining").textContent = `Retraining is ${due.why}`;
  else if (due.changed < due.needed) $("retraining").textContent = `${due.changed} of ${due.needed} changes until the next retraining`;
  else $("retraining").textContent = due.due ? "A retraining is due" : `Retraining waits: ${due.why}`;
  if (!active && run?.state === "failed") $("retraining").textContent += ` · the last run failed: ${run.error ?? "see its log"}`;
}

function progress(run) {
  if (run.state === "queued") return "waiting for the dispatcher";
  const epoch = run.epoch ? `, epoch ${run.epoch}${run.epochs ? ` of ${run.epochs}` : ""}` : "";
  return `${run.stage ?? "starting"}${epoch}`;
}

// --- small things

const agrees = (item) => item.predicted === item.label;
const percent = (share) => `${(100 * share).toFixed(share > 0.995 && share < 1 ? 1 : 0)}\u00a0%`;
const element = (name, attributes) => Object.assign(document.createElement(name), attributes);
const option = (value, text) => element("option", { value, textContent: text });

function crisp(event) {
  const picture = event.target;
  picture.classList.toggle("tiny", Math.max(picture.naturalWidth, picture.naturalHeight) <= TINY);
}

const relabel = () => $("relabel-to").value && decide("relabel", $("relabel-to").value);
const suggest = () => current() && !agrees(current()) && decide("relabel", current().predicted);

const KEYS = {
  Enter: () => decide("confirm"),
  " ": () => decide("skip"),
  s: suggest,
  x: () => decide("exclude"),
  u: undo,
  "/": () => $("relabel-to").focus(),
};

function pressed(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  const where = event.target instanceof Element ? event.target : document.body;
  if (where.id === "relabel-to" && event.key === "Enter") {
    event.preventDefault();
    where.blur();
    relabel();
    return;
  }
  if (where.matches("input, select, textarea")) {
    if (event.key === "Escape") where.blur();
    return;
  }
  // Enter and Space on a button or link are that button's.
  if (where.matches("button, a") && (event.key === "Enter" || event.key === " ")) return;
  const act = KEYS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (!act || (!current() && act !== undo)) return;
  event.preventDefault();
  act();
}

function wire() {
  const clicks = {
    keep: KEYS.Enter, skip: KEYS[" "], exclude: KEYS.x, suggest, relabel, undo, "undo-empty": undo,
  };
  for (const [id, act] of Object.entries(clicks))
    $(id).addEventListener("click", (event) => {
      if (event.detail > 0) event.currentTarget.blur(); // or Enter would press it again
      act();
    });
  $("picture").addEventListener("load", crisp);
  $("picture").addEventListener("error", () => say("The image cannot be shown; its bytes may be damaged.", true));
  $("relabel-to").addEventListener("change", enable);
  $("filters").addEventListener("change", () => {
    say("");
    load().catch(complain);
  });
  $("filters").addEventListener("submit", (event) => event.preventDefault());
  document.addEventListener("keydown", pressed);
  document.addEventListener("visibilitychange", watch);
}

wire();
try {
  await Promise.all([loadClasses(), loadDone()]);
  await load();
} catch (problem) {
  complain(problem);
}
await watch();
setInterval(watch, POLL_MS);

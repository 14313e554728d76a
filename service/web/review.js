// The review: one sample at a time, worst first, or many in a grid. The service is the truth; a
// decision is shown at once, and the outbox sees to it that it gets there.

import { ask } from "./ask.js";
import { $, agrees, option, say } from "./dom.js";
import { Conflicts } from "./conflicts.js";
import { Evidence } from "./evidence.js";
import { Feed, failed, sample } from "./feed.js";
import { Grid } from "./grid.js";
import { Keys } from "./keys.js";
import { Outbox, samplesOf } from "./outbox.js";
import { Picker } from "./picker.js";
import { Progress } from "./progress.js";
import { emptiness, showItem, strip } from "./stage.js";
import * as queues from "./queues.js";

const WHO = document.querySelector('meta[name="reviewer"]').content;
const FILTERS = ["order", "label", "predicted", "split", "state", "text"];
const STRIP = 12; // samples shown below
const LONGEST_S = 3600; // that somebody looks at one; more is a pause

let queue = "top";
let grid = false;
let since = performance.now(); // when what is looked at was shown
let done = []; // decisions that can be taken back, the last one last: {id?, key?, sample, text, item?}

const gone = new Set(); // samples decided here

const outbox = new Outbox({
  changed: showSaves,
  sent(entry, answer) {
    if (entry.kind === "decide") for (const one of done) if (one.key === entry.key) one.id = answer.id;
    if (entry.kind === "undo") returned(entry);
    if (entry.kind === "bulk") severalSent(entry, answer);
    if (outbox.entries.length === 0) progress.look();
    if (feed.current && !grid) show(); // pictures that failed are asked for again
  },
  refused(entry, problem) {
    done = done.filter((one) => one.key !== entry.key);
    for (const id of samplesOf(entry)) gone.delete(id);
    enable();
    if (!problem.present?.label) return say(`Not recorded: ${problem.message}.`, true);
    conflicts.add(problem.present);
    say("");
  },
});
for (const entry of outbox.entries) if (entry.kind !== "undo") samplesOf(entry).forEach((id) => gone.add(id));

// A list of what is pending leaves out what was decided here; of decided ones, only what the service
// does not know of yet.
const waits = (id) => outbox.entries.some((entry) => samplesOf(entry).includes(id));
const hidden = (id, listed) => (listed ? waits(id) : gone.has(id));
const feed = new Feed(hidden, show);
const evidence = new Evidence();
const progress = new Progress(() => reload().then(() => say("A new model serves; this is its list."), complain));
const tiles = new Grid((decisions, order) => {
  for (const { sample } of decisions) gone.add(sample);
  outbox.decideAll(decisions, order);
}, hidden);
const conflicts = new Conflicts(lookAt);
const picker = new Picker($("relabel-to"), $("relabel-list"), (label) => decide("relabel", label));

// --- where we are: kept in the address, so that a reload leads back

function filters() {
  const chosen = FILTERS.map((name) => [name, $(`filter-${name}`).value.trim()]);
  return Object.fromEntries(chosen.filter(([name, value]) => value && !(name === "order" && value === "loss")));
}

function remember() {
  const place = new URLSearchParams(filters());
  if (queue !== "top") place.set("queue", queue);
  if (grid) place.set("view", "grid");
  else if (queue === "top" && feed.current) place.set("sample", feed.current.id);
  history.replaceState(null, "", `${location.pathname}${place.size ? `?${place}` : ""}`);
}

function recall() {
  const place = new URLSearchParams(location.search);
  for (const name of FILTERS) if (place.has(name)) $(`filter-${name}`).value = place.get(name);
  $("narrow").open = FILTERS.slice(1).some((name) => place.has(name));
  grid = place.get("view") === "grid";
  queue = queues.known(place.get("queue")) ? place.get("queue") : "top";
  return place.get("sample");
}

async function reload(select = feed.current?.id) {
  $("filters").hidden = queue !== "top";
  for (const button of $("queues").children) button.setAttribute("aria-pressed", String(button.dataset.queue === queue));
  $("grid-view").setAttribute("aria-pressed", String(grid));
  $("grid-view").disabled = queue !== "top";
  if (grid && queue === "top") await Promise.all([tiles.load(filters()), feed.load(filters(), select)]);
  else if (queue === "top") await feed.load(filters(), select);
  else await readQueue();
}

let onward = null; // where the queue goes on behind what was read of it

async function readQueue(cursor = null) {
  const wanted = queue;
  let page = await queues.read(wanted, cursor);
  if (cursor && page.items.length === 0) page = await queues.read(wanted); // what was skipped comes again
  if (wanted !== queue) return;
  onward = page.next;
  feed.replace(page.items, page.total);
}

async function countPairs() {
  const { label, predicted, ...rest } = filters();
  const query = new URLSearchParams(Object.entries(rest).filter(([name]) => ["split", "state"].includes(name)));
  const { items } = await ask(`/v1/top-losses/pairs?limit=100&${query}`);
  const chosen = label && predicted ? JSON.stringify([label, predicted]) : "";
  const pairs = items.map((pair) => option(JSON.stringify([pair.label, pair.predicted]), `${pair.label} → ${pair.predicted} (${pair.samples})`));
  $("pairs").replaceChildren(option("", "given → predicted"), ...pairs);
  $("pairs").value = pairs.some((pair) => pair.value === chosen) ? chosen : "";
}

async function countQueues() {
  const totals = await queues.counts();
  for (const button of $("queues").children) {
    const { queue: name } = button.dataset;
    if (name === "top") continue;
    button.hidden = !totals[name] && name !== queue;
    button.dataset.name ??= button.textContent;
    button.textContent = `${button.dataset.name} ${totals[name] || ""}`.trim();
  }
}

// --- deciding

const SAID = { confirm: (item) => `kept as ${item.label}`, relabel: (_, label) => `now ${label}`, exclude: () => "excluded", skip: () => "skipped" };

// Nothing is decided that was not seen.
function unseen(action) {
  const picture = $("stage").querySelector("img");
  if (picture && failed(picture)) {
    if (["exclude", "skip"].includes(action)) return false;
    show(); // asks for it again
    say("The picture cannot be shown; exclude or skip it, or wait for the service.", true);
    return true;
  }
  if (picture?.complete) return false;
  say("The picture is still on its way.");
  return true;
}

function decide(action, label = null) {
  const item = feed.current;
  // Not while another list or queue is on its way: what is on the stage is none of it.
  if (!item || grid || item !== shown || (item.queue ?? "top") !== queue || unseen(action)) return;
  if (queue !== "top") return void answerQueue(item, action, label);
  if (action === "relabel" && label === item.label) [action, label] = ["confirm", null];
  const seconds = Math.min(LONGEST_S, (performance.now() - since) / 1000);
  const body = { sample: item.id, action, revision: item.revision, seconds: Math.round(seconds * 10) / 10 };
  if (item.rank) body.rank = item.rank;
  if (label !== null) body.label = label;
  // The order is for the trail. Which samples were listed is not told: what follows is here already,
  // and a class that is renamed meanwhile must refuse no decision.
  if (feed.filters.order) body.list = { order: feed.filters.order };
  const text = SAID[action](item, label);
  gone.add(item.id);
  const key = outbox.decide(body, text);
  done.push({ key, sample: item.id, text, item });
  feed.drop();
  say(`Sample ${item.id.slice(0, 8)} ${text}.`);
  show();
}

let answering = false;

async function answerQueue(item, action, label) {
  if (answering || (item.blind && action === "confirm")) return;
  answering = true;
  try {
    await queues.answer(queue, item, action, label);
    if (feed.current !== item) return; // another queue is looked at by now
    feed.drop();
    say(`Sample ${item.id.slice(0, 8)}: recorded.`);
    if (feed.items.length === 0) await readQueue(onward);
    show();
  } catch (problem) {
    complain(problem);
    if ([404, 409].includes(problem.status)) await readQueue().catch(complain);
  } finally {
    answering = false;
  }
}

function undo() {
  if ($("undo").disabled) return say("There is nothing to undo.");
  const last = done.pop();
  const waits = outbox.undo(last);
  say(`Taken back: sample ${last.sample.slice(0, 8)} was ${last.text}.`);
  if (waits === null) Promise.resolve(last.item ?? sample(last.sample)).then(bringBack, complain); // it never left
  enable();
}

// An undo was recorded: the sample is looked at again, at its new revision.
async function returned(entry) {
  gone.delete(entry.body.sample);
  if (queue !== "top") return void readQueue().catch(complain);
  if (grid) return void reload().catch(complain);
  bringBack(await sample(entry.body.sample).catch(() => null));
}

function bringBack(item) {
  if (!item) return;
  gone.delete(item.id);
  if (queue !== "top") return; // nothing with its label among what is judged blind
  if (feed.total !== null) feed.total += 1;
  feed.put(item);
}

// What was said of many in the grid was answered, each for itself.
function severalSent({ body }, answers) {
  const refused = answers.filter(({ status }) => status).length;
  answers.forEach(({ id, status }, place) => {
    const { sample } = body.decisions[place];
    if (status) gone.delete(sample);
    else done.push({ id, sample, text: "decided in the grid" });
  });
  if (refused)
    say(`${answers.length - refused} decided. ${refused} not: somebody changed them meanwhile; they are shown as they are now.`, true);
  enable();
  countPairs().catch(complain);
  if (grid && outbox.entries.length === 0 && tiles.idle) tiles.load(filters()).catch(complain);
}

async function lookAt(now) {
  gone.delete(now.id);
  if (queue !== "top") {
    queue = "top";
    return void reload(now.id).catch(complain);
  }
  const item = await sample(now.id).catch(complain);
  if (item) feed.put(item);
}

// --- showing

let shown = null; // the item whose picture is on the stage

function show() {
  const item = feed.current;
  $("grid").hidden = !(grid && queue === "top");
  $("sample").hidden = grid || !item;
  $("empty").hidden = grid ? feed.total !== 0 : Boolean(item);
  $("counts").textContent = feed.total === null ? "many" : `${feed.total} ${feed.filters?.state ? "found" : "left"}`;
  if (item !== shown) since = performance.now();
  shown = item;
  if (item && !grid) showItem(item, feed.picture(item), queue);
  evidence.show(item && !grid && queue !== "captures" ? item : null);
  if (!$("empty").hidden) [$("empty-title").textContent, $("empty-text").textContent] = emptiness(queue, feed, filters());
  showStrip();
  enable();
  remember();
}

function showStrip() {
  const first = Math.max(0, feed.at - 2);
  const near = grid ? [] : feed.items.slice(first, first + STRIP);
  const small = (item, index) => strip(item, index, index === feed.at, () => feed.go(index - feed.at));
  $("strip").replaceChildren(...near.map((item, place) => small(item, first + place)));
}

function enable() {
  const item = feed.current;
  for (const id of ["keep", "exclude", "skip"]) $(id).disabled = !item;
  $("suggest").disabled = !item || item.blind || agrees(item);
  $("heat").disabled = $("near").disabled = !item || item.blind || queue === "captures";
  const final = queue !== "top"; // what was said there stays said, and nothing else is undone from there
  $("undo").disabled = $("undo-empty").disabled = final || done.length === 0;
  $("undo-empty").hidden = final || done.length === 0;
}

function showSaves({ waiting, failed }) {
  const what = `${waiting} ${waiting === 1 ? "decision" : "decisions"}`;
  $("saves").textContent = waiting === 0 ? "All saved" : failed ? `${what} not saved yet; trying again` : `Saving ${what}…`;
  $("saves").classList.toggle("warn", failed > 0);
  $("saves").setAttribute("aria-live", failed ? "polite" : "off"); // not at every key
}

const complain = (problem) => {
  say(`${problem.message}.`, true);
  if (!problem.status && problem.status !== 0) console.error(problem);
};

// --- what buttons and keys do

const press = (id) => {
  const on = $(id).getAttribute("aria-pressed") !== "true";
  $(id).setAttribute("aria-pressed", String(on));
  return on;
};

const acts = {
  keep: () => decide("confirm"),
  suggest: () => feed.current && !feed.current.blind && !agrees(feed.current) && decide("relabel", feed.current.predicted),
  relabel: () => (grid ? $("bulk-label") : $("relabel-to")).focus(),
  exclude: () => decide("exclude"),
  skip: () => decide("skip"),
  undo,
  next: () => feed.go(1),
  previous: () => feed.go(-1),
  grid() {
    if (queue !== "top") return;
    grid = !grid;
    reload().then(() => grid && $("tiles").children[0]?.focus(), complain);
  },
  zoom() {
    const on = press("zoom");
    $("stage").classList.toggle("zoomed", on);
    $("stage").tabIndex = on ? 0 : -1; // to be scrolled by the arrows
  },
  heat() {
    if ($("heat").disabled) return;
    press("heat");
    show();
  },
  near: () => !$("near").disabled && evidence.toggleNear(),
  help: () => keys.help(),
};

const keys = new Keys(acts, (figure) => {
  const label = picker.digit(figure);
  if (label !== undefined) decide("relabel", label);
});

function wire() {
  const clicks = { keep: acts.keep, suggest: acts.suggest, exclude: acts.exclude, skip: acts.skip, undo, "undo-empty": undo,
    "grid-view": acts.grid, "show-help": acts.help, zoom: acts.zoom, heat: acts.heat, near: acts.near };
  for (const [id, act] of Object.entries(clicks))
    $(id).addEventListener("click", (event) => {
      if (event.detail > 0) event.currentTarget.blur(); // or Enter would press it again
      act();
    });
  $("filters").addEventListener("change", (event) => {
    if (event.target.id === "pairs") pairChosen();
    say("");
    reload(null).then(countPairs).catch(complain);
  });
  $("filters").addEventListener("submit", (event) => {
    event.preventDefault();
    document.activeElement.blur();
  });
  $("queues").addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    queue = button.dataset.queue;
    grid = false;
    reload(null).catch(complain);
  });
}

// A pair is judged side by side.
function pairChosen() {
  const [label, predicted] = JSON.parse($("pairs").value || '["", ""]');
  $("filter-label").value = label;
  $("filter-predicted").value = predicted;
  grid = Boolean(label);
}

async function loadClasses() {
  const names = (await ask("/v1/classes")).items.map((entry) => entry.name);
  picker.names = tiles.names = names;
  for (const id of ["filter-label", "filter-predicted"]) $(id).replaceChildren(option("", "any label"), ...names.map((name) => option(name, name)));
}

async function loadDone() {
  const events = (await ask("/v1/decisions?limit=100")).items;
  const undone = new Set(events.map((event) => event.undoes));
  const mine = events.filter((event) => event.actor === WHO && !event.evidence?.blind && event.action !== "undo" && !undone.has(event.id));
  const taken = new Set(outbox.entries.flatMap(({ kind, id, of }) => (kind === "undo" ? [id, of] : [])));
  const waiting = outbox.entries.filter(({ kind, key }) => kind === "decide" && !taken.has(key));
  done = mine.filter(({ id }) => !taken.has(id)).map((event) => ({ id: event.id, sample: event.sample, text: event.action })).reverse();
  done.push(...waiting.map(({ key, body, text }) => ({ key, sample: body.sample, text })));
}

wire();
try {
  await Promise.all([loadClasses(), loadDone()]);
  await reload(recall());
  await Promise.all([countPairs(), countQueues()]);
} catch (problem) {
  complain(problem);
}
await progress.look();

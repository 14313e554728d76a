// The other queues: captured images, and those that are judged blind. One at a time, each answered
// before the next is shown.

import { ask, freshKey, post } from "./ask.js";

const PAGE = 20;

const BLIND = ["holdout", "second", "again"];

const LISTS = {
  captures: "/v1/captures",
  disagreements: "/v1/disagreements",
  ...Object.fromEntries(BLIND.map((queue) => [queue, `/v1/blind?queue=${queue}`])),
};

const WHY = {
  margin: "The model was torn between two classes",
  novelty: "Unlike what the model learned from",
  random: "Kept by chance",
  feedback: "Sent with a claim",
};

export const known = (queue) => queue === "top" || queue in LISTS;

function list(queue, limit, cursor = null) {
  const query = new URLSearchParams({ limit, ...(cursor && { cursor }) });
  return ask(LISTS[queue] + (LISTS[queue].includes("?") ? "&" : "?") + query);
}

// How many each has; one that the service does not have has none.
export async function counts() {
  const found = await Promise.all(
    Object.keys(LISTS).map(async (queue) => [queue, (await list(queue, 1).catch(() => ({ total: 0 }))).total]),
  );
  return Object.fromEntries(found);
}

// `cursor`: of the page before, whose `next` it was; else the queue's beginning.
export async function read(queue, cursor = null) {
  const page = await list(queue, PAGE, cursor);
  return { items: page.items.map((item) => asShown(queue, item)), total: page.total, next: page.next_cursor };
}

// What a reviewer says of an item; the service's answer.
export function answer(queue, item, action, label) {
  if (queue === "captures") {
    if (action === "skip") return Promise.resolve({});
    if (action === "exclude") return post(`/v1/captures/${item.id}/discard`, {});
    return post(`/v1/captures/${item.id}/label`, { label: label ?? item.label });
  }
  if (BLIND.includes(queue)) {
    const body = { queue, sample: item.id, action: action === "relabel" ? "label" : action, revision: item.revision };
    return post("/v1/blind", { ...body, ...(label && { label }) }, { "Idempotency-Key": item.key });
  }
  const body = { sample: item.id, action, revision: item.revision, ...(label && { label }) };
  return post("/v1/decisions", body, { "Idempotency-Key": item.key });
}

function asShown(queue, item) {
  const shown = { ...item, queue, key: freshKey(), blind: BLIND.includes(queue) };
  if (queue === "captures") {
    shown.label = item.claimed?.label ?? item.prediction.label;
    shown.predicted = item.prediction?.label ?? shown.label;
    shown.confidence = item.prediction?.confidence ?? null;
    shown.note = `${WHY[item.why]}.${item.claimed ? ` ${item.claimed.by} says ${item.claimed.label}.` : ""}`;
  } else if (queue === "disagreements") {
    const said = ({ by, action, label }) => `${by}: ${action === "exclude" ? "exclude" : label}`;
    shown.predicted = item.second.label ?? item.label;
    shown.note = `${said(item.first)}. ${said(item.second)}.`;
  } else {
    shown.note = "Judged blind: say what you see.";
  }
  return shown;
}

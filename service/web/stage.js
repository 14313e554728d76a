// What is on the stage: one sample, its facts, and its neighbours in the list; or why there is none.

import { $, agrees, element, percent, say, thumbnail } from "./dom.js";

const NAMES = { captures: "Captures", holdout: "The holdout’s slice", second: "Second opinions", again: "The second look", disagreements: "Disagreements" };

// Its picture on the stage, and what is known of it beside.
export function showItem(item, picture, queue) {
  picture.alt = item.blind ? "The sample" : `Sample given as ${item.label}, predicted as ${item.predicted}`;
  const heat = $("heat").getAttribute("aria-pressed") === "true" && !item.blind && queue !== "captures";
  $("stage").replaceChildren(picture, ...(heat ? [heatOf(item)] : []));
  $("facts").hidden = item.blind;
  $("rank").textContent = item.rank ? `Number ${item.rank}` : "";
  $("split").textContent = item.split && !item.blind ? `${item.split} split` : "";
  $("name").textContent = item.note ?? item.name ?? item.id.slice(0, 8);
  $("keep").hidden = $("suggest").hidden = item.blind;
  if (item.blind) return;
  $("given-word").textContent = queue !== "captures" ? "Given" : item.claimed ? "Claimed" : "Perhaps";
  $("label").textContent = item.label;
  $("predicted").textContent = item.predicted;
  $("confidence").textContent = item.confidence === null ? "" : percent(item.confidence);
  $("loss").textContent = item.loss == null ? "–" : `${item.loss.toFixed(2)} nats`;
  $("keep-text").textContent = queue === "captures" ? `It is ${item.label}` : "Keep";
  $("suggest-text").textContent = agrees(item) ? "Model agrees" : `Use ${item.predicted}`;
}

function heatOf(item) {
  const over = element("img", { className: "heat", alt: `Where ${item.predicted} was seen` });
  over.addEventListener("error", () => say("No heat map: the serving model does not know the class.", true));
  over.src = `/v1/samples/${item.id}/heatmap?label=${encodeURIComponent(item.predicted)}`;
  return over;
}

// Why there is nothing to look at: a title, and what may be done.
export function emptiness(queue, feed, filters) {
  if (queue !== "top") return ["Nothing waits here", `${NAMES[queue]}: nothing is left to judge.`];
  if (feed.note) return ["No list of this model", feed.note];
  if (feed.model === null)
    return ["No model yet", "Train one with “toploss train”. What it is most wrong about will be listed here."];
  const chosen = Object.keys(filters).filter((name) => name !== "order");
  if (chosen.length) return ["Nothing here", "No such sample. Choose others above."];
  if ($("reviewed").textContent === "0") return ["Nothing to review", "The model has no held-out sample yet. Import more images and train again."];
  return ["Nothing left to review", "Everything in the list is decided, or somebody else looks at it. The next model brings a new list."];
}

// A small picture in the strip; `pick` makes it the one that is looked at.
export function strip(item, index, current, pick) {
  const words = item.blind ? "" : agrees(item) ? item.label : `${item.label} → ${item.predicted}`;
  const button = element("button", { type: "button" }, thumbnail(item), words);
  button.setAttribute("aria-label", item.blind ? `Number ${index + 1}` : `Number ${index + 1}: given ${item.label}, predicted ${item.predicted}`);
  if (current) button.setAttribute("aria-current", "true");
  button.addEventListener("click", () => {
    pick();
    $("actions").focus({ preventScroll: true }); // so that Enter keeps it, and does not pick it again
  });
  return element("li", {}, button);
}

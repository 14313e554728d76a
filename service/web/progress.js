// How far the review is, and the retraining that it leads to.

import { ask } from "./ask.js";
import { $, percent } from "./dom.js";

const POLL_MS = 3000;
const ACTIVE = ["queued", "leased", "running"];

export class Progress {
  #version; // that served when it was last looked at

  // promoted(): another version serves.
  constructor(promoted) {
    this.promoted = promoted;
    document.addEventListener("visibilitychange", () => this.look());
    setInterval(() => this.look(), POLL_MS);
  }

  async look() {
    if (document.hidden) return;
    try {
      this.#show(await ask("/v1/progress"));
    } catch (problem) {
      $("retraining").textContent = problem.message;
    }
  }

  #show(now) {
    $("reviewed").textContent = now.reviewed;
    $("left").textContent = now.left;
    showRecent(now.recent);
    showEstimate(now.estimate, now.recent);
    $("waiting").hidden = now.unscored === 0;
    $("waiting").textContent = `${now.unscored} newer ${now.unscored === 1 ? "sample waits" : "samples wait"} to be scored.`;
    showRetraining(now.retraining, now.run);
    showVersions(now.serving, now.before);
    const version = now.serving?.version ?? now.version;
    if (this.#version !== undefined && version !== this.#version) this.promoted();
    this.#version = version;
  }
}

function showRecent(recent) {
  $("recent-of").textContent = recent.decisions || 50;
  $("recent").textContent = recent.share === null ? "–" : percent(recent.share);
}

function showEstimate(estimate, recent) {
  const rounded = (number) => Math.round(number).toLocaleString();
  $("errors").replaceChildren(
    estimate ? rounded(estimate.errors) : "–",
    Object.assign(document.createElement("span"), {
      className: "soft",
      textContent: estimate ? ` ${rounded(estimate.low)} to ${rounded(estimate.high)}` : ` after ${Math.max(1, 20 - recent.decisions)} more decisions`,
    }),
  );
}

function showRetraining(due, run) {
  const active = run && ACTIVE.includes(run.state);
  $("changes").hidden = Boolean(active) || due.paused;
  $("changes").max = due.needed;
  $("changes").value = Math.min(due.changed, due.needed);
  $("retraining").textContent = active ? `Retraining: ${stage(run)}` : waits(due);
  if (!active && run?.state === "failed") $("retraining").textContent += ` · the last run failed: ${run.error ?? "see its log"}`;
  showCurve(active ? run : null);
}

function waits(due) {
  if (due.paused) return `Retraining is ${due.why}`;
  if (due.due) return "A retraining is due";
  if (due.changed < due.needed) return `${due.changed} of ${due.needed} changes until the next retraining`;
  return `Retraining waits: ${due.why}`;
}

function stage(run) {
  if (run.state === "queued") return "waiting for the dispatcher";
  const epoch = run.epoch ? `, epoch ${run.epoch}${run.epochs ? ` of ${run.epochs}` : ""}` : "";
  return `${run.stage ?? "starting"}${epoch}${left(run)}`;
}

function left({ left_s: whole, stage_left_s: stage }) {
  const seconds = whole ?? stage;
  if (seconds === null || seconds === undefined) return "";
  const about = seconds < 60 ? "less than a minute" : `about ${Math.round(seconds / 60)} min`;
  return `, ${about}${whole === null ? " of this stage" : ""} left`;
}

function showCurve(run) {
  const rows = (run?.history ?? []).filter((row) => Number.isFinite(row.valid_loss));
  $("curve").toggleAttribute("hidden", rows.length < 2);
  $("curve-text").hidden = rows.length === 0;
  if (!rows.length) return;
  const last = rows.at(-1);
  $("curve-text").textContent = `Validation loss ${last.valid_loss.toFixed(3)} (line), training ${(last.train_loss ?? NaN).toFixed(3)} (dashes)`;
  const highest = Math.max(...rows.flatMap((row) => [row.valid_loss, row.train_loss ?? 0]));
  for (const [id, name] of [["curve-train", "train_loss"], ["curve-valid", "valid_loss"]]) {
    const points = rows.map((row, place) => `${(4 + (232 * place) / Math.max(1, rows.length - 1)).toFixed(1)},${(56 - (52 * (row[name] ?? 0)) / highest).toFixed(1)}`);
    $(id).setAttribute("points", points.join(" "));
  }
}

function showVersions(serving, before) {
  const score = (one) => one.metrics.valid?.accuracy;
  const now = serving && `Version ${serving.version.slice(-8)} serves`;
  if (!now) $("versions").textContent = "";
  else if (score(serving) === undefined) $("versions").textContent = `${now}.`;
  else if (before && score(before) !== undefined)
    $("versions").textContent = `${now}: accuracy on valid ${percent(score(serving))}; of the one before, ${before.version.slice(-8)}, ${percent(score(before))}.`;
  else $("versions").textContent = `${now}: accuracy on valid ${percent(score(serving))}.`;
}

// Small things that every part of the page needs.

export const $ = (id) => document.getElementById(id);

export const element = (name, attributes = {}, ...children) => {
  const made = Object.assign(document.createElement(name), attributes);
  made.append(...children);
  return made;
};

export const option = (value, text) => element("option", { value, textContent: text });

// A share that is not quite one is not told as 100 %.
export const percent = (share) =>
  share > 0.9995 && share < 1 ? "> 99.9\u00a0%" : `${(100 * share).toFixed(share > 0.995 && share < 1 ? 1 : 0)}\u00a0%`;

export const agrees = (item) => item.predicted === item.label;

const TINY = 96; // pixels; smaller pictures are shown pixel by pixel

export function crisp(event) {
  const picture = event.target;
  picture.classList.toggle("tiny", Math.max(picture.naturalWidth, picture.naturalHeight) <= TINY);
}

export function thumbnail(item, size = 128) {
  const picture = element("img", { src: `${item.thumbnail}?size=${size}`, alt: "", loading: "lazy", decoding: "async" });
  picture.addEventListener("load", crisp);
  return picture;
}

export function say(text, wrong = false) {
  $("message").textContent = text;
  $("message").classList.toggle("error", wrong);
}

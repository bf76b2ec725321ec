// Live parts and the map's strength. Everything else works without this file.
"use strict";

const EVERY_MS = 4000;

function setStrength() {
  const slider = document.querySelector("[data-strength]");
  if (!slider) return;
  for (const map of document.querySelectorAll("img.map")) map.style.opacity = slider.value / 100;
}

function busyIn(part) {
  // What somebody reads, selects or has opened is not replaced under their hands.
  const selection = document.getSelection();
  const selected = selection && !selection.isCollapsed && part.contains(selection.anchorNode);
  const active = document.activeElement;
  const inside = active !== part && part.contains(active);
  return Boolean(selected || inside || part.querySelector("details[open]"));
}

async function renew() {
  if (document.hidden || !document.querySelector("[data-live]")) return;
  let answer;
  try {
    answer = await fetch(location.href, { headers: { Accept: "text/html" }, redirect: "error" });
  } catch {
    return;
  }
  if (!answer.ok) return;
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  for (const part of document.querySelectorAll("[data-live]")) {
    const next = fresh.querySelector(`[data-live="${part.dataset.live}"]`);
    if (next && next.innerHTML !== part.innerHTML && !busyIn(part)) part.replaceChildren(...next.childNodes);
  }
  const state = document.querySelector('[data-live="state"]');
  if (state && !fresh.querySelector("[data-running]")) state.removeAttribute("data-running");
  setStrength();
}

document.addEventListener("input", (event) => {
  if (event.target.matches("[data-strength]")) setStrength();
});
setStrength();
const onStudy = document.querySelector('[data-live="state"]');
setInterval(() => {
  if (!onStudy || onStudy.hasAttribute("data-running")) renew();
}, EVERY_MS);

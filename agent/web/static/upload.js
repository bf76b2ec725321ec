// Sends chosen files one by one, each as the body of its own request, and says what became of them.
"use strict";

const AT_ONCE = 2;
const box = document.querySelector("[data-upload]");
const told = box.querySelector("[data-told]");
const bar = box.querySelector("[data-progress]");
const taken = new Map(); // Study Instance UID to how many of its objects
let waiting = [];
let chosen = 0;
let done = 0;
let refused = 0;
let busy = 0;

function show(kind, item) {
  document.querySelector(`[data-heading="${kind}"]`).hidden = false;
  document.querySelector(`[data-${kind}]`).append(item);
}

function tell() {
  bar.hidden = false;
  bar.max = chosen;
  bar.value = done;
  const rest = refused ? `, ${refused} not taken` : "";
  told.textContent = done < chosen ? `${done} of ${chosen} files${rest}` : `All ${chosen} files done${rest}.`;
}

function count(uid) {
  let entry = taken.get(uid);
  if (!entry) {
    const item = document.createElement("li");
    const link = document.createElement("a");
    link.href = `/studies/${uid}`;
    link.textContent = uid;
    link.className = "uid";
    entry = { number: 0, text: document.createElement("span") };
    item.append(link, entry.text);
    show("studies", item);
    taken.set(uid, entry);
  }
  entry.number += 1;
  entry.text.textContent = ` ${entry.number} ${entry.number === 1 ? "object" : "objects"}`;
}

function fail(file, words) {
  refused += 1;
  const item = document.createElement("li");
  item.textContent = `${file.webkitRelativePath || file.name}: ${words}`;
  show("faults", item);
}

async function send(file) {
  let answer;
  try {
    answer = await fetch("/upload", { method: "POST", body: file, headers: { "X-Form-Token": box.dataset.formToken } });
  } catch {
    fail(file, "the agent did not answer; is it running, and the file still there?");
    return;
  }
  const said = await answer.json().catch(() => ({ error: `status ${answer.status}` }));
  if (answer.ok) count(said.study_instance_uid);
  else fail(file, said.error);
}

async function work() {
  busy += 1;
  while (waiting.length) {
    await send(waiting.shift());
    done += 1;
    tell();
  }
  busy -= 1;
}

function take(files) {
  waiting = waiting.concat([...files]);
  chosen += files.length;
  if (files.length) tell();
  while (busy < AT_ONCE && busy < waiting.length) work();
}

async function filesOf(entry) {
  if (entry.isFile) return [await new Promise((resolve, reject) => entry.file(resolve, reject))];
  const reader = entry.createReader();
  const found = [];
  for (;;) {
    // a reader gives a hundred entries at a time, and none at the end
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!some.length) return found;
    for (const one of some) found.push(...(await filesOf(one)));
  }
}

box.addEventListener("change", (event) => {
  take(event.target.files);
  event.target.value = "";
});
for (const name of ["dragenter", "dragover"])
  box.addEventListener(name, (event) => {
    event.preventDefault();
    box.classList.add("over");
  });
box.addEventListener("dragleave", () => box.classList.remove("over"));
box.addEventListener("drop", async (event) => {
  event.preventDefault();
  box.classList.remove("over");
  const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry()).filter(Boolean);
  for (const entry of entries) take(await filesOf(entry));
});

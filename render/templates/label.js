// Judging samples. Every verdict is kept in this browser at once, under the page's digest and the rater's initials.
"use strict";
const at = (id) => document.getElementById(id);
const { page, laws, items } = JSON.parse(at("data").textContent);
const KEY = `reprise-label-${page}`;
let rater = "", kept = {};  // rater -> [[item, verdict, time], ...] in the order of judging
let unsaved = false;

function load() {
  try {
    localStorage.setItem(`${KEY}-probe`, "1");
    localStorage.removeItem(`${KEY}-probe`);
    const stored = JSON.parse(localStorage.getItem(KEY) || "{}");
    for (const [name, verdicts] of Object.entries(stored)) {
      const known = new Set(items.map((item) => item.id));
      kept[name] = verdicts.filter(([item]) => known.has(item));
    }
  } catch {
    at("warning").hidden = false;
  }
}
function save() {
  unsaved = true;
  try {
    localStorage.setItem(KEY, JSON.stringify(kept));
  } catch {
    at("warning").hidden = false;
  }
}
const verdicts = () => kept[rater] || (kept[rater] = []);
const next = () => {
  const judged = new Set(verdicts().map(([item]) => item));
  return items.find((item) => !judged.has(item.id));
};

function show() {
  const item = rater && next();
  at("begin").hidden = Boolean(rater);
  at("judge").hidden = !item;
  at("end").hidden = !rater || Boolean(item);
  at("always").hidden = !rater;
  if (!rater) return at("initials").focus();
  const count = verdicts().length;
  if (item) {
    at("law").textContent = laws[item.law];
    at("picture").src = `data:image/png;base64,${item.image}`;
    at("picture").alt = `Image ${count + 1} of ${items.length}`;
  }
  at("progress").value = count;
  at("done").textContent = `${rater}: ${count} of ${items.length} judged` +
    (item ? "; an export is whole only when all of them are" : "");
  at("undo").disabled = count === 0;
}
function judge(verdict) {
  const item = rater && next();
  if (!item) return;
  verdicts().push([item.id, verdict, new Date().toISOString().replace(/\.\d+Z$/, "Z")]);
  save();
  show();
}
function undo() {
  if (!rater || !verdicts().pop()) return;
  save();
  show();
}
function start() {
  const initials = at("initials").value.trim().toUpperCase();
  at("initials").setAttribute("aria-invalid", String(!/^[A-Z]{2,4}$/.test(initials)));
  if (!/^[A-Z]{2,4}$/.test(initials)) return at("initials").focus();
  rater = initials;
  at("initials").blur();
  show();
}
function download() {
  const lines = verdicts().map(([item, verdict, time]) => [page, rater, item, verdict, time].join(","));
  const text = ["page,rater,item,verdict,time", ...lines, ""].join("\n");
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
  link.download = `labels-${page.slice(0, 8)}-${rater}.csv`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  unsaved = false;
}

for (const [id, act] of Object.entries({
  start, undo, export: download, success: () => judge("success"), failure: () => judge("failure"),
  other: () => { rater = ""; at("initials").value = ""; show(); },
})) at(id).addEventListener("click", (event) => { act(); event.currentTarget.blur(); });
at("initials").addEventListener("keydown", (event) => { if (event.key === "Enter") start(); });
const KEYS = { ArrowRight: () => judge("success"), s: () => judge("success"), ArrowLeft: () => judge("failure"), f: () => judge("failure"),
  Backspace: undo, u: undo };
document.addEventListener("keydown", (event) => {
  if (!rater || event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;  // a key held down is one verdict
  const act = KEYS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (!act) return;
  event.preventDefault();
  act();
});
addEventListener("beforeunload", (event) => { if (unsaved && !at("warning").hidden) event.preventDefault(); });

load();
show();

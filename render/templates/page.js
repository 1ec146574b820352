// What a page does beyond reading: theme, filter, sort, copy, arrow keys. Without it the page reads and opens all the same.
// It takes text from the document and gives text back (textContent, attributes); it never makes markup of anything.
"use strict";
const all = (selector, within = document) => [...within.querySelectorAll(selector)];
const root = document.documentElement;
const isShown = (element) => element.offsetParent !== null;

// Light or dark: as the system has it, until the reader chooses.
const remembered = { get: () => { try { return localStorage.getItem("reprise-theme"); } catch { return null; } },
  set: (name) => { try { localStorage.setItem("reprise-theme", name); } catch { /* then it is not remembered */ } } };
const systemIsDark = matchMedia("(prefers-color-scheme: dark)");
const theme = () => root.dataset.theme || (systemIsDark.matches ? "dark" : "light");
function wear(name) {
  if (name === "light" || name === "dark") root.dataset.theme = name;
  for (const button of all("#theme")) {
    button.hidden = false;
    button.textContent = theme() === "dark" ? "Light" : "Dark";
    button.setAttribute("aria-label", `Switch to ${button.textContent.toLowerCase()} colours`);
  }
}
wear(remembered.get());
systemIsDark.addEventListener("change", () => wear());
for (const button of all("#theme")) button.addEventListener("click", () => {
  wear(theme() === "dark" ? "light" : "dark");
  remembered.set(root.dataset.theme);
});

// Copying a command.
async function copy(button) {
  const code = button.closest(".command").querySelector("code, pre");
  const done = (text) => {
    button.textContent = text;
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  };
  try {
    await navigator.clipboard.writeText(code.textContent);
    done("Copied");
  } catch {  // no clipboard for this page: select it, so that the browser's own copying does it
    getSelection().selectAllChildren(code);
    done(document.execCommand("copy") ? "Copied" : "Selected");
  }
}
for (const button of all("button.copy")) {
  button.hidden = false;
  button.addEventListener("click", () => copy(button));
}

// Every cell: filters and sorting.
const table = document.querySelector("#cells");
if (table) {
  const body = table.tBodies[0], lines = [...body.rows];
  const toolbar = document.querySelector("#filters"), count = document.querySelector("#count");
  const choices = all("select", toolbar), words = toolbar.querySelector("input");
  const filter = () => {
    const text = words.value.trim().toLowerCase();
    for (const line of lines) {
      const chosen = choices.every((choice) => choice.value === "" || line.dataset[choice.name] === choice.value.slice(1));
      line.hidden = !(chosen && line.textContent.toLowerCase().includes(text));
    }
    const left = lines.filter((line) => !line.hidden).length;
    count.textContent = left === lines.length ? `${left} cells` : `${left} of ${lines.length} cells`;
    rove(table);
  };
  const reset = () => {
    for (const choice of choices) choice.value = "";
    words.value = "";
    filter();
  };
  toolbar.hidden = false;
  toolbar.addEventListener("input", filter);
  toolbar.querySelector("button").addEventListener("click", reset);

  const sortKey = (line, column) => {
    const { value } = line.cells[column].dataset;
    return value === undefined ? line.cells[column].textContent.trim() : value === "" ? NaN : Number(value);
  };
  const compare = (a, b) => typeof a === "string" ? a.localeCompare(b, "en", { numeric: true }) : a - b;
  const sort = (head, column) => {
    const order = { none: "ascending", ascending: "descending", descending: "none" }[head.getAttribute("aria-sort") || "none"];
    for (const other of all("th", table.tHead)) other.removeAttribute("aria-sort");
    if (order !== "none") head.setAttribute("aria-sort", order);
    const keyed = lines.map((line) => [sortKey(line, column), line]);
    if (order !== "none") keyed.sort(([a], [b]) => Number.isNaN(a) || Number.isNaN(b)  // holes stand last either way
      ? Number.isNaN(a) - Number.isNaN(b) : (order === "ascending" ? 1 : -1) * compare(a, b));
    body.append(...keyed.map(([, line]) => line));
    rove(table);
  };
  all("th", table.tHead).forEach((head, column) => {
    const button = document.createElement("button");
    button.className = "sort";
    button.textContent = head.textContent;
    head.replaceChildren(button);
    button.addEventListener("click", () => sort(head, column));
  });
  filter();
}

// Arrow keys go from number to number in a table; Tab enters and leaves it.
function rove(within) {
  const buttons = all("tbody button", within);
  const current = buttons.find((button) => button.tabIndex === 0 && isShown(button)) ||
    all("tbody tr", within).flatMap((line) => all("button", line)).find(isShown);
  for (const button of buttons) button.tabIndex = button === current ? 0 : -1;
}
function beside(button, key) {
  const cell = button.closest("td"), line = cell.parentElement;
  const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -1, ArrowDown: 1 }[key];
  if (key === "ArrowLeft" || key === "ArrowRight") {
    const cells = [...line.cells].filter((other) => other.querySelector("button"));
    return cells[cells.indexOf(cell) + step]?.querySelector("button");
  }
  const rows = [...line.parentElement.rows].filter((row) => !row.hidden);
  for (let at = rows.indexOf(line) + step; rows[at]; at += step) {
    const found = rows[at].cells[cell.cellIndex]?.querySelector("button");
    if (found) return found;
  }
  return undefined;
}
for (const within of all("table.numbers")) {
  rove(within);
  within.addEventListener("keydown", (event) => {
    const button = event.target.closest("td button");
    const next = event.key.startsWith("Arrow") && button && beside(button, event.key);
    if (!next) return;
    event.preventDefault();
    button.tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  });
}

// Panels: Escape closes (the browser's own doing), arrows go on to the next number, c copies, the address says which is open.
const panels = all("[popover]");
const opener = (panel) => all(`button[popovertarget="${panel.id}"]`).find(isShown);
function show(panel) {
  opener(panel)?.focus();  // where the focus returns to
  panel.showPopover();
}
for (const panel of panels) {
  panel.addEventListener("toggle", (event) => {
    if (event.newState === "open") history.replaceState(null, "", `#${panel.id}`);
    else if (location.hash === `#${panel.id}`) history.replaceState(null, "", location.pathname + location.search);
  });
  panel.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (step) {
      event.preventDefault();
      panel.hidePopover();
      show(panels[(panels.indexOf(panel) + step + panels.length) % panels.length]);
    } else if (event.key === "c") copy(panel.querySelector("button.copy"));
  });
}
const linked = panels.find((panel) => `#${panel.id}` === location.hash);
if (linked) show(linked);

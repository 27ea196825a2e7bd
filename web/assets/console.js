// What pages do beyond links and forms: times in the viewer's zone, numbers
// that refresh in place, keys, selection, copying. Everything works without it.
const root = document.documentElement;
root.classList.add("js");

const units = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];

function relative(ms) {
  const seconds = Math.abs(ms) / 1000;
  if (seconds < 1) return "now";
  let text = "";
  for (let i = 0; i < units.length; i++) {
    const [unit, size] = units[i];
    const n = Math.floor(seconds / size);
    if (n < 1) continue;
    text = `${n} ${unit}`;
    const rest = units[i + 1] && Math.floor((seconds % size) / units[i + 1][1]);
    if (i < 2 && n < 10 && rest > 0) text += ` ${rest} ${units[i + 1][0]}`;
    break;
  }
  return ms > 0 ? `${text} ago` : `in ${text}`;
}

function showTimes(within = document) {
  for (const time of within.querySelectorAll("time[datetime]")) {
    const at = new Date(time.dateTime);
    const text = relative(Date.now() - at);
    if (time.textContent !== text) time.textContent = text;
    time.title = at.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "long" });
  }
  for (const title of within.querySelectorAll("title[data-from]")) {
    const [from, to] = [title.dataset.from, title.dataset.to].map((at) => new Date(at).toLocaleTimeString(undefined, { timeStyle: "short" }));
    const text = `${from} to ${to}: ${title.dataset.text}`;
    if (title.textContent !== text) title.textContent = text;
  }
}
showTimes();
setInterval(showTimes, 1000);

// On a phone the navigation scrolls: where one is, is seen.
const nav = document.querySelector(".nav");
const here = nav?.querySelector("[aria-current]");
if (here && nav.scrollWidth > nav.clientWidth) nav.scrollLeft = here.offsetLeft - (nav.clientWidth - here.offsetWidth) / 2;

// Parts that may change are fetched anew and put in place, unless somebody is
// using them.
const opened = CSS.supports("selector(:popover-open)") ? ":popover-open" : "#none";
const live = [...document.querySelectorAll("[data-live]")].map((part) => part.id);
// Numbers that are no longer kept current must not look as if they were.
let current = new Date();
function sayStale(why, text) {
  if (document.getElementById("stale")) return;
  const again = Object.assign(document.createElement("a"), { href: location.href, textContent: text });
  const note = Object.assign(document.createElement("p"), { id: "stale", className: "note" });
  note.setAttribute("role", "status");
  note.append(`This page is as of ${current.toLocaleTimeString()}: ${why} `, again);
  document.getElementById("main").prepend(note);
}
async function refresh() {
  if (document.hidden || !live.length) return;
  let page;
  try {
    const answer = await fetch(location.href, { headers: { Accept: "text/html" }, redirect: "manual" });
    if (answer.type === "opaqueredirect") return sayStale("you are signed out.", "Sign in");
    if (!answer.ok) return sayStale("rowcall cannot make this page at the moment.", "Load it again");
    page = new DOMParser().parseFromString(await answer.text(), "text/html");
  } catch {
    return sayStale("rowcall does not answer.", "Load it again"); // the next turn may do
  }
  document.getElementById("stale")?.remove();
  current = new Date();
  for (const id of [...live, "nav-dead"]) {
    const now = document.getElementById(id);
    const next = page.getElementById(id);
    if (!now || !next || now.matches(":hover") && now.querySelector("table") || now.contains(document.activeElement) || now.querySelector(opened)) continue;
    showTimes(next);
    const folds = now.querySelectorAll("details");
    next.querySelectorAll("details").forEach((fold, i) => (fold.open = folds[i]?.open ?? fold.open));
    if (now.innerHTML !== next.innerHTML) now.replaceChildren(...next.childNodes);
  }
}
if (live.length) setInterval(refresh, 5000);

// Rows by keyboard.
let row = -1;
let leader = "";
const rows = () => [...document.querySelectorAll("table[data-rows] tbody tr, .todo li")];
function select(n) {
  const all = rows();
  if (!all.length) return;
  row = Math.max(0, Math.min(n, all.length - 1));
  all.forEach((tr, i) => tr.classList.toggle("at", i === row));
  const link = all[row].querySelector("a");
  if (link) link.focus({ preventScroll: true });
  all[row].scrollIntoView({ block: "nearest" });
}
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, textarea, select, dialog[open]")) return;
  const key = event.key;
  const after = leader;
  leader = "";
  const place = after === "g" && /^[a-z]$/.test(key) && document.querySelector(`.nav a[data-key="${key}"]`);
  if (place) location.href = place.href;
  else if (key === "g") leader = "g";
  else if (key === "/") document.querySelector("input[type=search]")?.focus();
  else if (key === "j") select(row + 1);
  else if (key === "k") select(row - 1);
  else if (key === "x") rows()[row]?.querySelector("input[type=checkbox]")?.click();
  else if (key === "a") {
    const what = rows()[row]?.querySelector("button[popovertarget], .actions a");
    what?.focus();
    if (what?.popoverTargetElement) what.click();
  } else if (key === "m") document.querySelector("main .button.main")?.focus();
  else if (key === "?") document.getElementById("help")?.showModal();
  else return;
  event.preventDefault();
});

// Selection and its count.
const boxes = () => [...document.querySelectorAll("input[type=checkbox][name=id]")];
function count() {
  const n = boxes().filter((box) => box.checked).length;
  const status = document.querySelector("[data-selected]");
  if (status) status.textContent = n ? `${n} selected.` : "Select deliveries to act on them.";
}
document.addEventListener("change", (event) => {
  if (event.target.matches("[data-select-all]")) boxes().forEach((box) => (box.checked = event.target.checked));
  count();
});
count();

for (const button of document.querySelectorAll("[data-copy]")) {
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent);
    const text = button.textContent;
    button.textContent = "Copied";
    setTimeout(() => (button.textContent = text), 1500);
  });
}

// Following: events come in above as they are captured.
const tailed = 200;
for (const button of document.querySelectorAll("[data-tail]")) {
  let stream = null;
  const body = document.querySelector("#rows tbody");
  const cell = (row, text, className) => {
    const td = row.insertCell();
    if (className !== "wide") td.dataset.label = body.closest("table").tHead.rows[0].cells[td.cellIndex].textContent;
    if (className) td.className = className;
    td.textContent = text;
    return td;
  };
  const add = (event) => {
    const row = body.insertRow(0);
    const link = document.createElement("a");
    link.href = `/events/${encodeURIComponent(event.id)}`;
    link.textContent = event.type;
    cell(row, "", "wide").append(link);
    cell(row, event.partitionkey, "mono");
    cell(row, event.source);
    cell(row, event.data === undefined ? "–" : `${new Blob([JSON.stringify(event.data)]).size} B`, "n");
    const time = document.createElement("time");
    time.dateTime = event.time;
    cell(row, "").append(time);
    cell(row, event.sequence.replace(/^0+/, ""), "n mono");
    showTimes(row);
    while (body.rows.length > tailed) body.deleteRow(-1);
  };
  button.addEventListener("click", () => {
    if (!body) return location.reload();
    if (stream) {
      stream.close();
      stream = null;
    } else {
      const at = live.indexOf("rows");
      if (at >= 0) live.splice(at, 1); // it is not refreshed any more
      const query = new URLSearchParams();
      if (button.dataset.type) query.set("type", button.dataset.type);
      if (button.dataset.keyFilter) query.set("key", button.dataset.keyFilter);
      if (body.rows.length) query.set("after", body.rows[0].cells[5].textContent); // none between is missed
      stream = new EventSource(`${button.dataset.tail}&${query}`);
      stream.addEventListener("event", (message) => add(JSON.parse(message.data)));
    }
    button.setAttribute("aria-pressed", String(!!stream));
    button.textContent = stream ? "Stop following" : "Follow live";
  });
}

// Expressions are tried on recent events while they are written.
const tried = document.querySelector("[data-try]");
if (tried) {
  let turn = 0;
  let timer = 0;
  const names = ["events", "filter", "transform", "ordering_key"];
  const attempt = async () => {
    const mine = ++turn;
    const form = tried.closest("form");
    if (!form.elements.events.value.trim()) return tried.replaceChildren();
    const data = new URLSearchParams();
    for (const name of [...names, "id"]) if (form.elements[name]) data.set(name, form.elements[name].value);
    let answer;
    try {
      answer = await fetch(tried.dataset.try, { method: "POST", body: data, redirect: "error" });
    } catch {
      return; // the next letter tries again
    }
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    if (mine !== turn) return;
    const result = page.getElementById("tried");
    const problems = names.map((name) => page.getElementById(`p-${name}`)).filter(Boolean);
    if (problems.length) tried.replaceChildren(...problems.map((p) => Object.assign(document.createElement("p"), { className: "fault", textContent: p.textContent })));
    else if (result) tried.replaceChildren(...result.childNodes);
    showTimes(tried);
  };
  tried.closest("form").addEventListener("input", (event) => {
    if (!names.includes(event.target.name)) return;
    clearTimeout(timer);
    timer = setTimeout(attempt, 400);
  });
  if (tried.closest("form").elements.filter.value || tried.closest("form").elements.transform.value) attempt();
}

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
}
showTimes();
setInterval(showTimes, 1000);

// Parts that may change are fetched anew and put in place, unless somebody is
// using them.
const live = [...document.querySelectorAll("[data-live]")].map((part) => part.id);
async function refresh() {
  if (document.hidden || !live.length) return;
  let page;
  try {
    const answer = await fetch(location.href, { headers: { Accept: "text/html" }, redirect: "error" });
    if (!answer.ok) return;
    page = new DOMParser().parseFromString(await answer.text(), "text/html");
  } catch {
    return; // the next turn may do
  }
  for (const id of [...live, "nav-dead"]) {
    const now = document.getElementById(id);
    const next = page.getElementById(id);
    if (!now || !next || now.matches(":hover") && now.querySelector("table") || now.contains(document.activeElement)) continue;
    showTimes(next);
    if (now.innerHTML !== next.innerHTML) now.replaceChildren(...next.childNodes);
  }
}
if (live.length) setInterval(refresh, 5000);

// Rows by keyboard.
let row = -1;
let leader = "";
const rows = () => [...document.querySelectorAll("table[data-rows] tbody tr")];
function select(n) {
  const all = rows();
  if (!all.length) return;
  row = Math.max(0, Math.min(n, all.length - 1));
  all.forEach((tr, i) => (i === row ? tr.setAttribute("aria-selected", "true") : tr.removeAttribute("aria-selected")));
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

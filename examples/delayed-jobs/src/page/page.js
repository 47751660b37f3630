// Asks for an overview about twice a second, less often when the answer is slow, and draws it. Text goes in as text, never as markup.
"use strict";

const byId = (id) => document.getElementById(id);

function element(name, content, attributes = {}) {
  const made = document.createElement(name);
  made.append(...[content].flat());
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

function button(word, path, label) {
  return element("button", word, { type: "button", "aria-label": label, "data-path": path });
}

// The header shows the server that the request is ours.
async function post(path, body) {
  const headers = { "x-delayed-jobs": "1", ...(body && { "content-type": "application/json" }) };
  const answer = await fetch(path, { method: "POST", headers, body: body && JSON.stringify(body) });
  if (!answer.ok) throw new Error(await answer.text());
  return answer;
}

// One listener for all buttons, since their rows come and go.
document.addEventListener("click", async (event) => {
  const pressed = event.target.closest("button[data-path]");
  if (!pressed) return;
  // Disabled it would lose the focus.
  if (pressed.getAttribute("aria-disabled") === "true") return;
  pressed.setAttribute("aria-disabled", "true");
  try {
    await post(pressed.dataset.path);
    pressed.closest("dialog")?.close();
    if (searched !== null) await search(false);
  } catch (error) {
    say(error.message, true);
  }
  pressed.removeAttribute("aria-disabled");
  await refresh();
});

// All that is known of a job, in a window of its own.
document.addEventListener("click", async (event) => {
  const pressed = event.target.closest("button[data-job]");
  if (!pressed) return;
  try {
    showDetail(await get(`/api/jobs/${pressed.dataset.job}`));
  } catch (error) {
    say(error.message, true);
  }
});

function time(micros) {
  const time = new Date(micros / 1000);
  return Number.isNaN(time.getTime()) ? "after others" : time.toISOString();
}

// JSON as a person reads it, if it is whole.
function pretty(json) {
  try {
    return JSON.stringify(JSON.parse(json), null, 2);
  } catch {
    return json;
  }
}

function showDetail(job) {
  byId("detail-title").textContent = `Job ${job.id}, ${job.state}`;
  const times = ["run_at", "created_at", "started_at", "finished_at", "lease_until"];
  const facts = Object.entries(job)
    .filter(([key, value]) => value !== null && !["id", "state", "payload", "errors"].includes(key) && String(value) !== "")
    .map(([key, value]) => [key, times.includes(key) ? time(value) : key === "timeout" ? `${value.secs + value.nanos / 1e9} s` : String(value)]);
  byId("detail-facts").replaceChildren(
    ...facts.map(([key, value]) => element("div", [element("dt", key.replaceAll("_", " ")), element("dd", value)])),
  );
  byId("detail-history").replaceChildren(
    element("li", `${time(job.created_at)} enqueued`),
    ...job.errors.map((failed) => element("li", `${time(failed.at)} try ${failed.attempt} failed: ${failed.error}`)),
    ...(job.finished_at === null ? [] : [element("li", `${time(job.finished_at)} ${job.state}`)]),
  );
  byId("detail-payload").textContent = pretty(job.payload);
  const words = { pending: ["retry", "cancel", "delete"], running: ["cancel"], done: ["delete"], dead: ["retry", "delete"], cancelled: ["retry", "delete"] }[job.state];
  byId("detail-actions").replaceChildren(
    ...words.map((word) => button(word === "retry" && job.state === "pending" ? "run now" : word, `/api/jobs/${job.id}/${word}`, `${word} this job`)),
  );
  if (!byId("detail").open) byId("detail").showModal();
}

// What was searched for last, and where the next page begins.
let searched = null;
let after = null;

async function get(path) {
  const answer = await fetch(path);
  if (!answer.ok) throw new Error(await answer.text());
  return answer.json();
}

function wanted() {
  return new URLSearchParams([...new FormData(byId("search"))].filter(([, value]) => value !== ""));
}

async function search(next) {
  const asked = next ? searched : wanted();
  const page = new URLSearchParams(asked);
  if (next && after !== null) page.set("after", after);
  try {
    const found = await get(`/api/jobs?${page}`);
    searched = asked;
    after = found.next;
    rows("found", found.jobs, (job) => [shown(job), job.state, job.kind, job.queue, job.key, time(job.finished_at ?? job.run_at)]);
    byId("more").hidden = after === null;
    byId("all").hidden = found.jobs.length === 0 && after === null;
    const words = found.jobs.length ? `${found.jobs.length} jobs on this page` : "no such jobs";
    byId("search-words").textContent = !found.jobs.length && after !== null ? "none so far: the next page looks further" : words;
  } catch (error) {
    byId("search-words").textContent = error.message;
  }
}

// Retries, cancels or deletes all that a search shows, after a question.
document.addEventListener("click", async (event) => {
  const pressed = event.target.closest("button[data-change]");
  if (!pressed || searched === null) return;
  const change = pressed.dataset.change;
  const which = new URLSearchParams(searched);
  const words = [...which].map(([name, value]) => (name === "within" ? `of the last ${duration(value * 1e6)}` : `${name} ${value}`));
  try {
    const { jobs, or_more } = await get(`/api/count?${which}`);
    byId("confirm-title").textContent = `${change[0].toUpperCase()}${change.slice(1)} ${jobs.toLocaleString("en")}${or_more ? " or more" : ""} jobs?`;
    byId("confirm-words").textContent = `Those with ${words.join(", ") || "anything"}, and those that come to be so meanwhile. ` +
      { retry: "Dead and cancelled ones are due at once, and pending ones if they are searched for.", cancel: "Running ones are told to stop.", delete: "Running ones stay. This cannot be undone." }[change];
    byId("confirm-yes").textContent = `${change} them`;
    byId("confirm").returnValue = "";
    byId("confirm").dataset.change = change;
    byId("confirm").showModal();
  } catch (error) {
    byId("search-words").textContent = error.message;
  }
});

async function changeAll(change) {
  const which = new URLSearchParams(searched);
  const done = { retry: "retried", cancel: "cancelled", delete: "deleted" }[change];
  let all = 0;
  let words;
  try {
    for (let more = true; more; ) {
      const changed = await (await post(`/api/change/${change}?${which}`)).json();
      all += changed.jobs;
      more = changed.more;
      if (changed.after !== null) which.set("after", changed.after);
      words = `${all.toLocaleString("en")} jobs ${done}`;
      byId("search-words").textContent = more ? `${words} so far` : words;
    }
  } catch (error) {
    words = `${all.toLocaleString("en")} jobs ${done}, then: ${error.message}`;
  }
  await search(false);
  byId("search-words").textContent = words;
  // The button that was pressed is hidden where nothing is left.
  if (document.activeElement === document.body || document.activeElement.closest("[hidden]")) byId("search").querySelector("button").focus();
  await refresh();
}

byId("confirm-yes").addEventListener("click", () => {
  byId("confirm").close();
  changeAll(byId("confirm").dataset.change);
});
byId("confirm-no").addEventListener("click", () => byId("confirm").close());

// The limits of a queue, in a window of their own.
let limited = null;

document.addEventListener("click", (event) => {
  const pressed = event.target.closest("button[data-limits]");
  if (!pressed) return;
  limited = pressed.dataset.limits;
  const known = limits.get(limited) ?? {};
  byId("limits-title").textContent = `Limits of the queue ${limited}`;
  byId("limits-words").textContent = "";
  for (const field of byId("limits-form").elements) {
    if (field.name) field.value = known[field.name] ?? "";
  }
  byId("limits").showModal();
});

byId("limits-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const set = [...new FormData(byId("limits-form"))].filter(([, value]) => value !== "").map(([name, value]) => [name, Number(value)]);
  try {
    await post(`/api/queues/${encodeURIComponent(limited)}/limit`, Object.fromEntries(set));
    byId("limits").close();
    await refresh();
  } catch (error) {
    byId("limits-words").textContent = error.message;
  }
});
byId("limits-close").addEventListener("click", () => byId("limits").close());

byId("search").addEventListener("submit", (event) => {
  event.preventDefault();
  search(false);
});
byId("more").addEventListener("click", () => search(true));
document.addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.target.closest("input, select, dialog")) return;
  event.preventDefault();
  byId("search").elements.id.focus();
});

const shown = (job) => element("button", String(job.id), { type: "button", class: "plain", "data-job": job.id, "aria-label": `details of job ${job.id}` });

let wrongUntil = 0;

function say(words, wrong) {
  if (!wrong && Date.now() < wrongUntil) return;
  if (wrong) wrongUntil = Date.now() + 3000;
  byId("status").textContent = words;
  byId("status").className = wrong ? "wrong" : "";
}

function duration(micros) {
  if (micros < 1e3) return `${micros} µs`;
  if (micros < 1e6) return `${(micros / 1e3).toFixed(1)} ms`;
  if (micros < 60e6) return `${(micros / 1e6).toFixed(1)} s`;
  const seconds = Math.floor(micros / 1e6);
  const parts = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  const first = parts.findIndex(([size]) => seconds >= size);
  return parts
    .slice(first, first + 2)
    .map(([size, unit], at) => `${Math.floor((at ? seconds % parts[first][0] : seconds) / size)} ${unit}`)
    .join(" ");
}

// Rows and buttons that stay are kept as they are: a button must not be swapped while it is pressed.
function rows(table, jobs, cells) {
  const body = byId(table).tBodies[0];
  const focus = document.activeElement?.getAttribute("aria-label");
  const known = new Map([...body.rows].map((row) => [row.dataset.id, row]));
  jobs.forEach((job, at) => {
    const id = String(job.id ?? job.name);
    const row = known.get(id) ?? element("tr", [], { "data-id": id });
    known.delete(id);
    fill(row, cells(job));
    if (body.rows[at] !== row) body.insertBefore(row, body.rows[at] ?? null);
  });
  // Where the row goes that has the focus, the next button of the table has it.
  const had = [...known.values()].some((row) => row.contains(document.activeElement));
  for (const gone of known.values()) gone.remove();
  if (had && focus) (body.querySelector("button") ?? document.querySelector("button"))?.focus();
}

// A button that is being pressed is the same one.
function markup(element) {
  return element?.outerHTML.replaceAll(' aria-disabled="true"', "");
}

function fill(row, cells) {
  cells.forEach((cell, at) => {
    const place = row.cells[at] ?? row.appendChild(element("td", ""));
    if (cell instanceof Element && cell.matches("button, .buttons") && markup(place.firstElementChild) === markup(cell)) return;
    if (cell instanceof Element || place.textContent !== String(cell ?? "")) {
      // Whoever has pressed "pause" is on "resume" now.
      const had = place.contains(document.activeElement);
      place.replaceChildren(cell ?? "");
      if (had) (place.querySelector("button") ?? document.querySelector("button")).focus();
    }
  });
}

function drawCounts(counts) {
  const old = byId("counts");
  for (const [state, count] of Object.entries(counts)) {
    let shown = byId(`count-${state}`);
    if (!shown) {
      shown = element("dd", "", { id: `count-${state}` });
      old.append(element("div", [element("dt", state), shown]));
    }
    shown.textContent = count.toLocaleString("en");
  }
}

// The server sends eighths of a power of two; whole ones are enough for the eye.
function drawLateness(metrics) {
  const figures = metrics.started === metrics.overdue
    ? "no job has started yet"
    : `p50 ${duration(metrics.p50)}, p99 ${duration(metrics.p99)}, latest ${duration(metrics.max)}`;
  byId("figures").textContent = figures;
  byId("histogram").setAttribute("aria-label", `Histogram of lateness: ${figures}`);
  const powers = new Map();
  for (const [upper, count] of metrics.buckets) {
    const power = upper < 128 ? 7 : Math.ceil(Math.log2(upper + 1));
    powers.set(power, (powers.get(power) ?? 0) + count);
  }
  const most = Math.max(1, ...powers.values());
  byId("histogram").replaceChildren(
    ...[...powers].map(([power, count]) => {
      const bar = element("i", "");
      bar.style.width = `${(100 * count) / most}%`;
      return element("div", [element("span", `< ${duration(2 ** power)}`), bar, element("span", count.toLocaleString("en"))]);
    }),
  );
}

const limits = new Map();
let ahead = 0;

function countDown() {
  const now = Date.now() * 1000 + ahead;
  for (const cell of document.querySelectorAll("[data-due]")) {
    const left = cell.dataset.due - now;
    // The end of time is the time of those that come after others.
    cell.textContent = left > 9e18 ? "after others" : left > 0 ? duration(left) : "now";
  }
}

let asking = null;
let askingNext = null;

// Never two at once. The answer that is on its way may be older than what was just changed, so who has changed something
// waits for the one after it.
function refresh() {
  if (asking === null) {
    asking = ask().finally(() => { asking = null; });
    return asking;
  }
  askingNext ??= asking.then(() => { askingNext = null; return refresh(); });
  return askingNext;
}

async function ask() {
  let overview;
  try {
    overview = await get("/api/overview");
  } catch (error) {
    say(`no answer: ${error.message}`, true);
    return;
  }
  ahead = overview.now - Date.now() * 1000;
  drawCounts(overview.counts);
  drawLateness(overview.metrics);
  byId("oldest").textContent = overview.oldest_due > 1e6
    ? `the first due job has waited for ${duration(overview.oldest_due)}` : "no due job waits";
  byId("oldest").className = overview.oldest_due > 10e6 ? "wrong" : "";
  rows("workers", overview.workers, (worker) => [worker.name, worker.host, worker.queues, element("span", duration(overview.now - worker.began_at))]);
  rows("schedules", overview.schedules, (schedule) => {
    const act = (word, label) => button(word, `/api/schedules/${encodeURIComponent(schedule.name)}/${word.split(" ")[0]}`, `${label} schedule ${schedule.name}`);
    const next = schedule.paused ? "paused" : schedule.slot === null ? "" : element("span", "", { "data-due": schedule.slot });
    const word = schedule.paused ? "resume" : "pause";
    return [schedule.name, schedule.spec, next, element("span", [act("run now", "run"), " ", act(word, word)], { class: "buttons" })];
  });
  const act = (job, word) => button(word, `/api/jobs/${job.id}/${word}`, `${word} job ${job.id}`);
  rows("queues", overview.queues, (queue) => {
    const word = queue.paused ? "resume" : "pause";
    limits.set(queue.name, queue.limits);
    const change = element("button", queue.words ?? "none", { type: "button", class: "plain", "data-limits": queue.name, "aria-label": `limits of queue ${queue.name}: ${queue.words ?? "none"}` });
    return [queue.name, queue.unfinished, change, button(word, `/api/queues/${encodeURIComponent(queue.name)}/${word}`, `${word} queue ${queue.name}`)];
  });
  rows("running", overview.running, (job) => {
    const progress = job.progress === null ? "" : element("progress", "", { max: 100, value: job.progress });
    return [shown(job), job.kind, job.attempt, progress, act(job, "cancel")];
  });
  rows("pending", overview.pending, (job) => [
    shown(job), job.kind, job.attempt, element("span", "", { "data-due": job.run_at }), act(job, "cancel"),
  ]);
  rows("dead", overview.dead, (job) => [shown(job), job.kind, job.attempt, job.error, act(job, "retry")]);
  countDown();
  say(`${overview.metrics.done.toLocaleString("en")} done by this worker`, false);
}

// A slow answer means that the store has enough to do, and a page that nobody sees asks for nothing.
async function loop() {
  const begun = performance.now();
  if (!document.hidden) await (asking ?? refresh());
  const took = performance.now() - begun;
  setTimeout(loop, Math.max(500, 5 * took));
}

byId("close").addEventListener("click", () => byId("detail").close());
loop();
setInterval(countDown, 100);

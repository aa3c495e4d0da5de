// Asks for /v1/live every second and shows it. Text from programs and tasks is only ever set as text.
"use strict";

const WORDS = {
  good: "right and clean",
  right_only: "right, not clean",
  clean_only: "clean, not right",
  bad: "neither",
  not_runnable: "cannot run",
  infra_error: "our failure",
};

const $ = (id) => document.getElementById(id);
const show = (id, text) => { $(id).textContent = text; };

function element(name, attributes, ...children) {
  const svg = name === "rect" ? "http://www.w3.org/2000/svg" : "http://www.w3.org/1999/xhtml";
  const node = document.createElementNS(svg, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

function seconds(time) {
  if (time === null) return "–";
  return time < 1 ? `${Math.round(time * 1000)} ms` : `${time.toFixed(1)} s`;
}

function state(kind, text) {
  $("state").className = `state ${kind}`;
  show("state", text);
}

function uptime(total) {
  const [days, hours, minutes] = [Math.floor(total / 86400), Math.floor(total / 3600) % 24, Math.floor(total / 60) % 60];
  if (days) return `${days} d ${hours} h`;
  return hours ? `${hours} h ${minutes} min` : minutes ? `${minutes} min` : `${total} s`;
}

function chart(live) {
  const sums = live.seconds.map((counts) => counts.reduce((a, b) => a + b, 0));
  const peak = Math.max(1, ...sums);
  const bars = [];
  live.seconds.forEach((counts, index) => {
    let top = 220;
    counts.forEach((count, verdict) => {
      if (!count) return;
      const height = (count / peak) * 212;
      top -= height;
      const x = (120 - live.seconds.length + index) * 8;
      bars.push(element("rect", { x: x + 0.75, y: top, width: 6.5, height, class: live.verdicts[verdict] }));
    });
  });
  $("chart").replaceChildren(...bars);
  show("peak", `highest bar: ${peak} a second`);
}

function legend(live) {
  const entries = live.verdicts.map((name, index) =>
    element("li", {}, element("span", { class: `dot ${name}` }), WORDS[name], element("b", {}, live.totals[index].toLocaleString("en"))));
  $("legend").replaceChildren(...entries);
}

function row(answer) {
  const number = (text) => element("td", { class: "n" }, String(text));
  const verdict = element("span", { class: "verdict" }, element("span", { class: `dot ${answer.verdict}` }), WORDS[answer.verdict]);
  return element("tr", {},
    element("td", {}, answer.task_id),
    element("td", {}, verdict),
    number(answer.reward === null ? "–" : answer.reward.toFixed(2)),
    number(`${answer.tests[0]} / ${answer.tests[1]}`),
    number(answer.findings),
    number(answer.type_errors));
}

function render(live) {
  const total = live.totals.reduce((a, b) => a + b, 0);
  const last = live.seconds.slice(-11, -1).map((counts) => counts.reduce((a, b) => a + b, 0));
  const pace = last.length ? last.reduce((a, b) => a + b, 0) / last.length : 0;
  state(live.draining ? "draining" : "ok", `${live.draining ? "shutting down" : "running"} · up ${uptime(live.uptime_seconds)}`);
  show("waiting", live.waiting.toLocaleString("en"));
  $("fill").value = live.waiting / live.capacity;
  show("judging", live.judging);
  show("capacity", `${live.capacity.toLocaleString("en")} may wait`);
  show("pace", pace.toFixed(pace < 10 ? 1 : 0));
  show("total", `${total.toLocaleString("en")} since the start`);
  show("median", seconds(live.request_seconds.p50));
  show("tail", `95 % within ${seconds(live.request_seconds.p95)}`);
  show("version", `version ${live.version}`);
  chart(live);
  legend(live);
  if (live.recent.length) $("recent").replaceChildren(...live.recent.map(row));
}

async function update() {
  const token = sessionStorage.getItem("token");
  try {
    const response = await fetch("v1/live", { headers: token ? { authorization: `Bearer ${token}` } : {} });
    $("login").hidden = response.status !== 401;
    if (response.ok) render(await response.json());
    else state("lost", response.status === 401 ? "locked" : `status ${response.status}`);
  } catch {
    state("lost", "no connection");
  }
  setTimeout(update, 1000);
}

$("login").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("token", $("token").value);
});
update();

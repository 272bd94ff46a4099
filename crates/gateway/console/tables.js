// Tables, lists and the summary, as DOM. Text only enters as text, never as markup.

import { LATE_MS, age, bytes, micros } from "./state.js";

const STATES = {
  up: ["●", "good"],
  draining: ["◐", "warn"],
  disconnected: ["▲", "bad"],
  down: ["✖", "bad"],
  stopped: ["■", "warn"],
  unknown: ["?", "warn"],
  removed: ["–", "warn"],
};
const GLYPHS = {
  leader: "♛", split: "✂", member: "⇄", region: "▦",
  store: "▣", pd: "⌂", operator: "⚙", health: "✚",
};

function element(name, attributes = {}, ...content) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...content);
  return made;
}

// Puts rows into a table; each row is cells, a text or a node, in the order of the heads.
function fill(table, heads, rows) {
  if (!table.tHead.rows.length) {
    table.tHead.append(element("tr", {}, ...heads.map((head) =>
      element("th", { scope: "col" }, head))));
  }
  table.tBodies[0].replaceChildren(...rows.map((cells) => element("tr", {}, ...cells.map(
    (cell, at) => element("td", { "data-label": heads[at] }, element("span", {}, cell))))));
}

export function health(place, status) {
  const word = status.healthy ? "✔ healthy" : `✖ ${status.reasons[0]?.kind ?? "beginning"}`;
  place.textContent = word;
  place.className = `pill ${status.healthy ? "good" : "bad"}`;
}

export function summary(place, state) {
  const { status } = state;
  const pd = status.pd.find((member) => member.leader);
  const regions = state.isCut ? `${status.regions}, ${state.regions.size} shown` : status.regions;
  const figures = [
    ["Stores", status.stores],
    ["Regions", regions],
    ["Not healthy", status.unhealthy_regions],
    ["Replicas", status.replica_count],
    ["Placement drivers", `${status.pd.length} (${pd ? pd.id : "none"} leads)`],
  ];
  place.replaceChildren(...figures.map(([name, value]) =>
    element("div", {}, element("dt", {}, name), element("dd", {}, String(value)))));
}

export function reasons(place, status) {
  const list = status.reasons.map((reason) => element("li", {},
    element("strong", { class: "bad" }, `✖ ${reason.kind}: `), reason.what,
    reason.region_count ? ` (${reason.region_count} regions)` : ""));
  if (status.awaited) list.push(element("li", {}, `waits for ${status.awaited}`));
  place.replaceChildren(...list);
}

// For how many seconds a store that counts as up is silent; empty if it is not.
export function lateness(store) {
  const isUp = store.state === "up" || store.state === "draining";
  return isUp && age(store) > LATE_MS ? (age(store) / 1000).toFixed(1) : "";
}

// A store's state in a word, with its sign, and what else is to be said.
function standing(store, state) {
  const late = lateness(store);
  const [sign, tone] = late ? ["▲", "bad"] : STATES[store.state] ?? ["?", "warn"];
  const words = [store.state];
  if (late) words.push(`silent for ${late} s`);
  if (store.draining && store.state !== "draining") words.push("draining");
  const about = state.status.reasons.filter((reason) => reason.stores.includes(store.id));
  const text = element("span", { class: tone }, `${sign} ${words.join(", ")}`);
  return element("span", {}, text, ...about.map((reason) =>
    element("div", {}, `${reason.kind}: ${reason.what}`)));
}

export function stores(table, state) {
  const heads = ["Store", "Address", "State", "Regions", "Leaders", "Disk", "Reads/s", "Writes/s",
    "Read p50, p99", "Write p50, p99"];
  fill(table, heads, state.stores.map((store) => {
    const { load } = store;
    const full = store.capacity_bytes ? store.used_bytes / store.capacity_bytes : 0;
    const meter = element("meter", { value: full, high: 0.8, "aria-hidden": true });
    const disk = `${bytes(store.used_bytes)} of ${bytes(store.capacity_bytes)}`;
    const labels = Object.entries(store.labels).map(([name, value]) => `${name}=${value}`);
    const pair = (name) =>
      load ? `${micros(load[`${name}_p50_us`])}, ${micros(load[`${name}_p99_us`])}` : "–";
    return [
      String(store.id),
      [store.addr, ...labels].join(" "),
      standing(store, state),
      String(store.region_count),
      String(store.leader_count),
      element("span", {}, meter, ` ${disk}`),
      load ? String(Math.round(load.reads_per_second)) : "–",
      load ? String(Math.round(load.writes_per_second)) : "–",
      pair("read"),
      pair("write"),
    ];
  }));
}

export function operators(table, none, state) {
  none.hidden = state.operators.length > 0;
  table.hidden = state.operators.length === 0;
  const heads = ["Region", "Why and what", "Step", "Age"];
  fill(table, heads, state.operators.slice(0, 100).map((operator) => [
    String(operator.region_id),
    operator.kind,
    `${operator.current_step + 1} of ${operator.steps.length}: ` +
      (operator.steps[operator.current_step] ?? "ends"),
    `${(operator.age_ms / 1000).toFixed(0)} s`,
  ]));
}

export function events(list, none, state) {
  none.hidden = state.events.length > 0;
  list.hidden = state.events.length === 0;
  list.replaceChildren(...state.events.map((event) => element("li", {},
    element("time", {}, new Date(event.at_ms).toLocaleTimeString()),
    element("b", {}, `${GLYPHS[event.kind] ?? "•"} ${event.kind}`),
    element("span", {}, event.what))));
}

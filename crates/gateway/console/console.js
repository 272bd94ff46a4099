// The page: listens to the server's events, shows what they say, and says when it hears none.

import { State, micros } from "./state.js";
import { MEASURES, RangeMap, colours } from "./map.js";
import { Chart } from "./chart.js";
import * as tables from "./tables.js";

const STALE_MS = 3000;
const AGAIN_MS = 1000;
const LOOK_MS = 250;

const at = (id) => document.getElementById(id);
const state = new State();
const map = new RangeMap(at("map"), at("region"), state);
const perSecond = (count) =>
  count === null ? "–" : `${Intl.NumberFormat("en", { notation: "compact" }).format(count)}/s`;
const throughput = new Chart(at("throughput"), [
  { field: "reads", tone: "read" },
  { field: "writes", tone: "write" },
], perSecond);
const latency = new Chart(at("latency"), [
  { field: "read_p99", tone: "read" },
  { field: "write_p99", tone: "write" },
], micros);

let source = null;
let heardAt = performance.now();
let toldAt = null;
let silence = null;
const shown = new Map();

function listen() {
  source = new EventSource("/v1/cluster/events");
  source.addEventListener("snapshot", (event) => take(event, true));
  source.addEventListener("delta", (event) => take(event, false));
  source.addEventListener("silent", (event) => {
    silence = JSON.parse(event.data).reason;
    look();
  });
  source.addEventListener("error", () => {
    // The browser does not come again after an answer that is no stream.
    if (source.readyState === EventSource.CLOSED) setTimeout(listen, AGAIN_MS);
  });
}

function take(event, isSnapshot) {
  const message = JSON.parse(event.data);
  const now = performance.now();
  const change = state.take(message, isSnapshot, now);
  heardAt = now;
  toldAt = message.at_ms;
  silence = null;
  requestAnimationFrame(() => show(change));
}

function show(change) {
  const now = performance.now();
  map.update(change, now);
  tables.health(at("health"), state.status);
  once("summary", [state.status, state.isCut], () => tables.summary(at("summary"), state));
  once("reasons", state.status, () => tables.reasons(at("reasons"), state.status));
  const late = state.stores.map((store) => tables.lateness(store));
  const rest = state.stores.map((store) => ({ ...store, last_heartbeat_ms: null }));
  once("stores", [late, rest, state.status.reasons], () => tables.stores(at("stores"), state));
  once("operators", state.operators, () =>
    tables.operators(at("operators"), at("no-operators"), state));
  once("events", [state.events.length, state.events[0]], () =>
    tables.events(at("events"), at("no-events"), state));
  throughput.draw(state.samples);
  latency.draw(state.samples);
  figures(state.samples.at(-1));
  look();
}

// The last figures under the charts' titles, with the lines' names.
function figures(sample) {
  const line = (place, [read, write], what) => {
    const names = [["read", "── reads", read], ["write", "┄┄ writes", write]];
    place.replaceChildren(...names.map(([tone, name, value]) => {
      const span = document.createElement("span");
      span.className = tone;
      span.textContent = `${name} ${value}  `;
      return span;
    }), what);
  };
  line(at("throughput-now"), [perSecond(sample.reads), perSecond(sample.writes)], "all stores");
  const of = (name) => `p50 ${micros(sample[`${name}_p50`])}, p99 ${micros(sample[`${name}_p99`])}`;
  line(at("latency-now"), [of("read"), of("write")], "of the slowest store; the lines are p99");
}

// Writes a part of the page only if what it shows has changed.
function once(name, value, write) {
  const text = JSON.stringify(value);
  if (shown.get(name) === text) return;
  shown.set(name, text);
  write();
}

// What changes with time alone: whether all of this is stale.
function look() {
  const now = performance.now();
  const isStale = now - heardAt > STALE_MS;
  const told = toldAt === null ? "never" : new Date(toldAt).toLocaleTimeString();
  const why = silence ? `The placement driver is silent (${silence})` : "The server is silent";
  const words = `▲ Stale. ${why}. What you see is from: ${told}.`;
  const banner = at("stale");
  banner.hidden = !isStale;
  if (isStale && banner.textContent !== words) banner.textContent = words;
  document.body.classList.toggle("stale", isStale);
  at("heard").textContent = isStale ? `stale, as of ${told}` : `live, ${told}`;
}

function legend() {
  const { sizes } = colours();
  const tile = (colour, inset, mark) => {
    const inner = 14 - 2 * inset;
    const dot = mark ? `<rect x="5" y="5" width="4" height="4" fill="var(--surface)"/>` : "";
    const box = `<rect x="${inset}" y="${inset}" width="${inner}" height="${inner}"`;
    return `<svg viewBox="0 0 14 14" aria-hidden="true">${box} fill="${colour}"/>${dot}</svg>`;
  };
  const cross = `<svg viewBox="0 0 14 14" aria-hidden="true"><path d="M1 1 13 13M13 1 1 13"` +
    ` stroke="var(--bad)" stroke-width="2"/></svg>`;
  const [few, much] = map.measure.words;
  const ramp = sizes.map((colour) => tile(colour, 0, false)).join("");
  at("legend").innerHTML = `<span>${tile(sizes[2], 0, true)} leader (full tile)</span> ` +
    `<span>${tile(sizes[2], 3, false)} follower (small tile)</span> ` +
    `<span>${cross} no leader is known</span> <span>${few} ${ramp} ${much}</span>`;
}

// Colours the range map by the other measure.
function nextMeasure() {
  const name = map.measure === MEASURES.size ? "load" : "size";
  map.colourBy(MEASURES[name]);
  at("measure").textContent = `Colours: ${name}`;
  legend();
}

const THEMES = { auto: "◐ auto", light: "○ light", dark: "● dark" };

function theme(name) {
  if (name === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = name;
  localStorage.setItem("theme", name);
  at("theme").textContent = THEMES[name];
  at("theme").setAttribute("aria-label", `Colours: ${name}`);
  repaint();
}

function nextTheme() {
  const names = Object.keys(THEMES);
  theme(names[(names.indexOf(localStorage.getItem("theme") ?? "auto") + 1) % names.length]);
}

function repaint() {
  legend();
  map.paint();
  throughput.draw(state.samples);
  latency.draw(state.samples);
}

function help() {
  if (!at("help").open) at("help").showModal();
}

function goTo(id) {
  at(id).focus();
  at(id).scrollIntoView({ block: "nearest" });
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || at("help").open) return;
  const keys = {
    "?": help,
    t: nextTheme,
    l: nextMeasure,
    m: () => goTo("map"),
    s: () => goTo("stores"),
    o: () => goTo("operators"),
    e: () => goTo("events"),
  };
  if (event.key in keys) {
    event.preventDefault();
    keys[event.key]();
  }
});
at("theme").addEventListener("click", nextTheme);
at("measure").addEventListener("click", nextMeasure);
at("help-open").addEventListener("click", help);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", repaint);
const kept = localStorage.getItem("theme");
theme(kept in THEMES ? kept : "auto");
setInterval(look, LOOK_MS);
listen();

// What the page knows: the last snapshot with all changes since. No DOM here.

const EVENTS_MAX = 200;
const WINDOW_MS = 10 * 60 * 1000;
// A store that was not heard for longer need not have stopped: a heartbeat, which comes each second,
// is late.
export const LATE_MS = 1350;

export class State {
  constructor() {
    this.status = null;
    this.stores = [];
    this.operators = [];
    this.regions = new Map();
    this.events = [];
    this.samples = [];
    this.isCut = false;
  }

  // Takes a message over. Returns the regions that changed, and whether tiles came, went or moved.
  take(message, isSnapshot, now) {
    const change = { regions: message.regions, moved: isSnapshot };
    if (isSnapshot) {
      this.regions = new Map();
      this.events = [];
    }
    for (const region of message.regions) {
      const old = this.regions.get(region.id);
      change.moved ||= !old || old.start !== region.start || stores(old) !== stores(region);
      region.changedAt = isSnapshot ? -Infinity : old && alike(old, region) ? old.changedAt : now;
      region.tiles = old ? old.tiles : [];
      this.regions.set(region.id, region);
    }
    for (const id of message.gone ?? []) {
      change.moved = this.regions.delete(id) || change.moved;
    }
    this.events = message.events.slice().reverse().concat(this.events).slice(0, EVENTS_MAX);
    change.moved ||= ids(this.stores) !== ids(message.stores);
    this.status = message.status;
    this.stores = message.stores;
    this.operators = message.operators;
    this.isCut = message.cut;
    this.sample(now);
    return change;
  }

  // The stores' figures added up. A store that is not heard adds nothing.
  sample(now) {
    const told = this.stores.filter((store) => store.load && age(store) <= 2 * LATE_MS);
    const sum = (name) => told.reduce((total, store) => total + store.load[name], 0);
    const worst = (name) => {
      const known = told.map((store) => store.load[name]).filter((us) => us !== null);
      return known.length ? Math.max(...known) : null;
    };
    this.samples.push({
      at: now,
      reads: told.length ? sum("reads_per_second") : null,
      writes: told.length ? sum("writes_per_second") : null,
      read_p50: worst("read_p50_us"),
      read_p99: worst("read_p99_us"),
      write_p50: worst("write_p50_us"),
      write_p99: worst("write_p99_us"),
    });
    const first = this.samples.findIndex((sample) => sample.at > now - WINDOW_MS);
    if (first > 64) this.samples.splice(0, first);
  }
}

// Milliseconds since the store was heard, when that was told; Infinity if it never was.
export function age(store) {
  return store.last_heartbeat_ms ?? Infinity;
}

// True if nothing but size and load differs.
function alike(a, b) {
  return a.leader_store_id === b.leader_store_id && a.start === b.start && a.end === b.end &&
    stores(a) === stores(b);
}

function stores(region) {
  return region.peers.map((peer) => `${peer.store_id}${peer.role}`).join();
}

function ids(list) {
  return list.map((store) => store.id).join();
}

export function bytes(count) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
  let unit = 0;
  while (count >= 1024 && unit < units.length - 1) {
    count /= 1024;
    unit += 1;
  }
  return `${unit === 0 || count >= 100 ? Math.round(count) : count.toFixed(1)} ${units[unit]}`;
}

export function micros(us) {
  if (us === null || us === undefined) return "–";
  if (us < 1000) return `${us} µs`;
  return us < 1e6 ? `${(us / 1000).toFixed(us < 1e4 ? 1 : 0)} ms` : `${(us / 1e6).toFixed(1)} s`;
}

// A stored key for people: without the keyspace's four bytes, as text where it is text.
export function key(hex, end) {
  if (hex.length <= 8) return end;
  const codes = hex.slice(8).match(/../g).map((pair) => parseInt(pair, 16));
  const isText = codes.every((code) => code >= 0x20 && code < 0x7f);
  return isText ? `“${String.fromCharCode(...codes)}”` : `0x${hex.slice(8)}`;
}

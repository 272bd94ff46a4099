// The range map: for each store a band of tiles, one for each region that has a member there, in
// the order of keys. A leader is a full tile with a mark, a follower a smaller one, a learner a
// frame, a tile of a region without a known leader is crossed out. Colour says the size, or what
// clients have the region do.
//
// A change repaints the tiles of the regions that changed; tiles that come, go or move repaint all.

import { bytes, key } from "./state.js";

const SIZES = [26, 20, 15, 11, 8, 6, 5, 4];
const BAND = 20;
// Pixels that the map should take; where it takes more, its frame is scrolled.
const HEIGHT = 760;
const FLASH_MS = 2000;
const CLASSES = 5;
// By what a tile is coloured: how much of it a region has, and how the legend calls few and much.
export const MEASURES = {
  size: { of: (region) => region.approximate_bytes, words: ["size: small", "large"] },
  load: {
    of: ({ load }) => load.reads_per_second + load.writes_per_second,
    words: ["load: idle", "busy"],
  },
};

export class RangeMap {
  constructor(canvas, label, state) {
    this.canvas = canvas;
    this.label = label;
    this.state = state;
    this.bands = [];
    this.chosen = null;
    this.flashing = new Set();
    this.measure = MEASURES.size;
    canvas.addEventListener("keydown", (event) => this.press(event));
    canvas.addEventListener("click", (event) => this.point(event));
    canvas.addEventListener("focus", () => this.chosenTile() ?? this.choose(this.beside(-1, 1), 0));
    new ResizeObserver(() => this.arrange()).observe(canvas);
  }

  // Takes over what changed.
  update(change, now) {
    for (const region of change.regions) {
      if (now - region.changedAt < FLASH_MS) this.flashing.add(region.id);
    }
    if (change.moved) this.arrange();
    else if (this.largest() !== this.scale) this.colourBy(this.measure);
    else this.repaint(change.regions, now);
    if (this.flashing.size && !this.timer) {
      this.timer = setTimeout(() => this.fade(), FLASH_MS);
    }
    this.tell();
  }

  // What the darkest tiles stand for: a power of two, so that it seldom changes.
  largest() {
    let most = 1;
    for (const region of this.state.regions.values()) {
      most = Math.max(most, this.measure.of(region));
    }
    return 2 ** Math.ceil(Math.log2(most));
  }

  // Colours the tiles by another measure.
  colourBy(measure) {
    this.measure = measure;
    this.scale = this.largest();
    this.paint();
  }

  // Marks of changes end after a while.
  fade() {
    this.timer = null;
    const now = performance.now();
    const old = [...this.flashing].filter((id) => {
      const region = this.state.regions.get(id);
      return !region || now - region.changedAt >= FLASH_MS - 50;
    });
    for (const id of old) this.flashing.delete(id);
    this.repaint(old.map((id) => this.state.regions.get(id)).filter(Boolean), now);
    if (this.flashing.size) this.timer = setTimeout(() => this.fade(), FLASH_MS / 2);
  }

  // Gives every tile its place.
  arrange() {
    const width = this.canvas.clientWidth;
    if (width === 0) return;
    const regions = [...this.state.regions.values()];
    regions.sort((a, b) => (a.start < b.start ? -1 : a.start > b.start ? 1 : 0));
    const bands = new Map(this.state.stores.map((store) => [store.id, []]));
    for (const region of regions) {
      region.tiles = [];
      for (const peer of region.peers) {
        if (!bands.has(peer.store_id)) bands.set(peer.store_id, []);
        bands.get(peer.store_id).push({ region, peer });
      }
    }
    this.bands = [...bands].sort((a, b) => a[0] - b[0]).map(([id, tiles]) => ({ id, tiles }));
    this.size = SIZES.find((size) => this.height(size, width) <= HEIGHT) ?? SIZES.at(-1);
    this.columns = Math.max(1, Math.floor(width / this.size));
    let top = 0;
    for (const band of this.bands) {
      band.top = top + BAND;
      band.tiles.forEach((tile, at) => {
        tile.x = (at % this.columns) * this.size;
        tile.y = band.top + Math.floor(at / this.columns) * this.size;
        tile.region.tiles.push(tile);
      });
      top = band.top + Math.max(1, Math.ceil(band.tiles.length / this.columns)) * this.size + 6;
    }
    this.scale = this.largest();
    const ratio = devicePixelRatio || 1;
    this.canvas.style.height = `${top}px`;
    this.canvas.width = Math.round(width * ratio);
    this.canvas.height = Math.round(top * ratio);
    this.pen = this.canvas.getContext("2d", { alpha: false });
    this.pen.scale(ratio, ratio);
    this.paint();
  }

  height(size, width) {
    const columns = Math.max(1, Math.floor(width / size));
    const rows = (band) => Math.max(1, Math.ceil(band.tiles.length / columns));
    return this.bands.reduce((sum, band) => sum + BAND + 6 + rows(band) * size, 0);
  }

  paint() {
    if (!this.pen) return;
    this.colours = colours();
    const { pen } = this;
    pen.fillStyle = this.colours.surface;
    pen.fillRect(0, 0, this.canvas.width, this.canvas.height);
    pen.font = "13px system-ui, sans-serif";
    for (const band of this.bands) band.leaders = null;
    this.heads();
    const now = performance.now();
    for (const band of this.bands) for (const tile of band.tiles) this.tile(tile, now);
    this.frame();
  }

  repaint(regions, now) {
    if (!this.pen) return;
    const { pen, size } = this;
    for (const { id } of regions) {
      const region = this.state.regions.get(id);
      if (!region) continue;
      for (const tile of region.tiles) {
        tile.region = region;
        tile.peer = region.peers.find((peer) => peer.id === tile.peer.id) ?? tile.peer;
        pen.fillStyle = this.colours.surface;
        pen.fillRect(tile.x, tile.y, size, size);
        this.tile(tile, now);
      }
    }
    this.heads();
    this.frame();
  }

  // The words above the bands where the number of leaders has changed.
  heads() {
    const { pen } = this;
    for (const band of this.bands) {
      const leaders = band.tiles.filter((tile) => leads(tile)).length;
      if (leaders === band.leaders) continue;
      band.leaders = leaders;
      pen.fillStyle = this.colours.surface;
      pen.fillRect(0, band.top - BAND, this.canvas.clientWidth, BAND);
      pen.fillStyle = this.colours.text;
      const text = `store ${band.id}: ${band.tiles.length} regions, leads ${leaders}`;
      pen.fillText(text, 0, band.top - 6);
    }
  }

  tile(tile, now) {
    const { pen, size } = this;
    const { region, peer } = tile;
    const edge = size - 1;
    const has = region.leader_store_id !== null;
    const share = this.measure.of(region) / this.scale;
    const colour = this.colours.sizes[Math.min(CLASSES - 1, Math.floor(share * CLASSES))];
    const inset = leads(tile) ? 0 : Math.max(1, Math.round(size * 0.2));
    const inner = edge - 2 * inset;
    pen.fillStyle = colour;
    if (peer.role === "learner") {
      pen.fillRect(tile.x + inset, tile.y + inset, inner, inner);
      pen.fillStyle = this.colours.surface;
      pen.fillRect(tile.x + inset + 1, tile.y + inset + 1, inner - 2, inner - 2);
    } else {
      pen.fillRect(tile.x + inset, tile.y + inset, inner, inner);
    }
    if (leads(tile) && size >= 8) {
      const mark = Math.max(2, Math.round(size * 0.3));
      pen.fillStyle = this.colours.surface;
      pen.fillRect(tile.x + (edge - mark) / 2, tile.y + (edge - mark) / 2, mark, mark);
    }
    if (!has) this.stroke(tile, this.colours.bad, true);
    if (now - region.changedAt < FLASH_MS) this.stroke(tile, this.colours.focus, false);
  }

  stroke(tile, colour, isCross) {
    const { pen, size } = this;
    pen.strokeStyle = colour;
    pen.lineWidth = size >= 11 ? 2 : 1;
    pen.beginPath();
    if (isCross) {
      pen.moveTo(tile.x, tile.y);
      pen.lineTo(tile.x + size - 1, tile.y + size - 1);
      pen.moveTo(tile.x + size - 1, tile.y);
      pen.lineTo(tile.x, tile.y + size - 1);
    } else {
      pen.rect(tile.x + 0.5, tile.y + 0.5, size - 2, size - 2);
    }
    pen.stroke();
  }

  // A frame around the chosen tile.
  frame() {
    const tile = this.chosenTile();
    if (!tile) return;
    const { pen, size } = this;
    pen.lineWidth = 2;
    pen.strokeStyle = this.colours.focus;
    pen.strokeRect(tile.x, tile.y, size - 1, size - 1);
  }

  chosenTile() {
    const { chosen } = this;
    if (!chosen) return null;
    const band = this.bands.find((band) => band.id === chosen.store);
    return band?.tiles.find((tile) => tile.region.id === chosen.region) ?? null;
  }

  choose(band, at) {
    const found = this.bands[band];
    const tile = found?.tiles[Math.max(0, Math.min(at, found.tiles.length - 1))];
    if (!tile) return;
    const before = this.chosenTile();
    this.chosen = { store: found.id, region: tile.region.id };
    if (before) this.repaint([before.region], performance.now());
    this.frame();
    const frame = this.canvas.parentElement;
    if (tile.y < frame.scrollTop) frame.scrollTop = tile.y - BAND;
    const below = tile.y + this.size - frame.scrollTop - frame.clientHeight;
    if (below > 0) frame.scrollTop += below + 4;
    this.tell();
  }

  press(event) {
    const band = this.bands.findIndex((band) => band.id === this.chosen?.store);
    const at = this.bands[band]?.tiles.indexOf(this.chosenTile()) ?? -1;
    const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -this.columns, ArrowDown: this.columns };
    const ends = { Home: 0, End: Infinity };
    if (event.key === "Escape") {
      const before = this.chosenTile();
      this.chosen = null;
      if (before) this.repaint([before.region], performance.now());
      this.tell();
      return;
    }
    if (!(event.key in step) && !(event.key in ends)) return;
    event.preventDefault();
    if (at < 0) return this.choose(this.beside(-1, 1), 0);
    if (event.key in ends) return this.choose(band, ends[event.key]);
    const next = at + step[event.key];
    const count = this.bands[band].tiles.length;
    if (next >= 0 && next < count) this.choose(band, next);
    else if (next < 0) this.choose(this.beside(band, -1), Infinity);
    else this.choose(this.beside(band, 1), event.key === "ArrowDown" ? at % this.columns : 0);
  }

  // The next band before or after this one that has tiles.
  beside(band, step) {
    do band += step; while (this.bands[band] && !this.bands[band].tiles.length);
    return band;
  }

  point(event) {
    const row = this.bands.findIndex((band, at) => {
      const next = this.bands[at + 1];
      return event.offsetY >= band.top && (!next || event.offsetY < next.top - BAND);
    });
    if (row < 0) return;
    const down = Math.floor((event.offsetY - this.bands[row].top) / this.size);
    const at = down * this.columns + Math.floor(event.offsetX / this.size);
    if (at < this.bands[row].tiles.length) this.choose(row, at);
  }

  // The chosen region in words.
  tell() {
    const region = this.state.regions.get(this.chosen?.region);
    const text = region ? describe(region) : "No region is chosen.";
    if (this.label.textContent !== text) this.label.textContent = text;
  }
}

function describe(region) {
  const leader = region.leader_store_id;
  const peers = region.peers.map((peer) => `${peer.store_id} (${peer.role})`).join(", ");
  const led = leader === null ? "no leader is known" : `leader on store ${leader}`;
  return `Region ${region.id}, from ${key(region.start, "the beginning")} to ` +
    `${key(region.end, "the end")}: ${led}; on stores ${peers}; about ` +
    `${bytes(region.approximate_bytes)} in ${region.approximate_keys} keys; ` +
    `${region.load.reads_per_second} reads and ${region.load.writes_per_second} writes a second; ` +
    `epoch ${region.epoch.conf_ver}/${region.epoch.version}.`;
}

function leads(tile) {
  return tile.region.leader_store_id === tile.peer.store_id;
}

// The page's colours as they are now. A pair is written light-dark(light, dark).
export function colours() {
  const style = getComputedStyle(document.documentElement);
  const theme = document.documentElement.dataset.theme;
  const isDark = theme ? theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  const of = (name) => style.getPropertyValue(`--${name}`).match(/#[0-9a-f]{6}/gi)[isDark ? 1 : 0];
  const names = ["surface", "text", "quiet", "line", "bad", "focus", "read", "write"];
  const found = Object.fromEntries(names.map((name) => [name, of(name)]));
  found.sizes = [1, 2, 3, 4, 5].map((at) => of(`size-${at}`));
  return found;
}

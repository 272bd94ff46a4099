// Takes the place of the browser's EventSource: a cluster of `COUNT` regions on `STORES` stores
// that changes all the time. For figures of the page with many regions; the product knows nothing of it.
"use strict";
(() => {
  const { COUNT, STORES, CHANGES, EVERY_MS } = window.FEED;
  const hex = (number) => number.toString(16).padStart(8, "0");
  const region = (at) => ({
    id: at + 1,
    start: at ? `00000000${hex(at)}` : "",
    end: at + 1 < COUNT ? `00000000${hex(at + 1)}` : "",
    epoch: { conf_ver: 3, version: 1 },
    peers: [0, 1, 2].map((step) => ({
      id: 3 * at + step + 1, store_id: ((at + step) % STORES) + 1, role: "voter",
    })),
    leader_store_id: (at % STORES) + 1,
    approximate_bytes: (at * 7919) % 96000000,
    approximate_keys: at,
    load: {
      reads_per_second: (at * 31) % 1000, read_bytes_per_second: 0, writes_per_second: 0,
      written_bytes_per_second: 0,
    },
  });
  const regions = Array.from({ length: COUNT }, (_, at) => region(at));
  const figures = () => ({
    at_ms: Date.now(),
    cut: false,
    operators: [],
    status: {
      cluster_id: 1, pd: [{ id: 1, addr: "a:1", leader: true }], stores: STORES, regions: COUNT,
      unhealthy_regions: 0, replica_count: 3, awaited: "", healthy: true, reasons: [],
    },
    stores: Array.from({ length: STORES }, (_, at) => ({
      id: at + 1, addr: `store-${at + 1}:20160`, state: "up", draining: false, labels: {},
      region_count: COUNT, leader_count: COUNT / STORES, used_bytes: 5e9, capacity_bytes: 1e11,
      last_heartbeat_ms: 300, load: {
        reads_per_second: 1000 + 100 * Math.random(), writes_per_second: 500 * Math.random(),
        read_p50_us: 100, read_p99_us: 900, write_p50_us: 1000, write_p99_us: 9000,
      },
    })),
  });
  window.EventSource = class extends EventTarget {
    static CLOSED = 2;
    constructor() {
      super();
      setTimeout(() => this.send("snapshot", { ...figures(), regions, events: [] }));
      setInterval(() => this.change(), EVERY_MS);
    }
    send(name, body) {
      this.dispatchEvent(new MessageEvent(name, { data: JSON.stringify(body) }));
    }
    change() {
      const changed = Array.from({ length: CHANGES }, () => {
        const one = regions[Math.floor(Math.random() * COUNT)];
        one.leader_store_id = one.peers[Math.floor(Math.random() * 3)].store_id;
        one.approximate_bytes = Math.floor(Math.random() * 96000000);
        return one;
      });
      const what = `${CHANGES} regions: leader on store 1, before on 2`;
      const event = { at_ms: Date.now(), kind: "leader", what, regions: [1] };
      this.send("delta", { ...figures(), regions: changed, gone: [], events: [event] });
    }
  };
})();

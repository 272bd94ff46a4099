"""The console in a real browser, over a cluster of real processes.

    check.py FLOTILLA                     the checks; status 1 if one fails
    check.py FLOTILLA --screenshot FILE   the same, and a picture for the README
    check.py FLOTILLA --figures SECONDS   the page over a cluster with 10,000 regions under load

Needs the Python package of Playwright, and Chromium: the variable CHROMIUM, or /usr/bin/chromium.
"""

import argparse
import json
import os
import pathlib
import random
import socket
import subprocess
import sys
import tempfile
import time

from playwright.sync_api import sync_playwright

STORES = 4
START_SECONDS = 60
# What the console promises: a change is visible within two seconds.
VISIBLE_MS = 2000
# What is not visible by then never is.
VISIBLE_MS_MAX = 60_000
# The page says that it is stale after three seconds, at its next look.
STALE_MS = 4000
HERE = pathlib.Path(__file__).parent
DATA = HERE.parent / "data" / "unicode.tsv"

# JavaScript: the row of a store, whether its state has one of the words, how often an event was told,
# and whether it was told more often than before. Regions split and move by themselves, too.
ROW = """const row = (id) => [...document.querySelectorAll('#stores tbody tr')].find(
    (row) => row.cells[0].textContent === String(id));"""
STATE = ROW + """const text = row(store)?.cells[2].textContent ?? '';
return any.some((word) => text.includes(word));"""
COUNT = "document.querySelector('#events').textContent.split(words).length - 1"
EVENT = f"return {COUNT} > before;"


PORTS = iter(random.sample(range(12_000, 28_000), 1_000))


def free_port():
    """Below the ports of outgoing connections, as in crates/proxy/src/ports.rs; none twice."""
    for port in PORTS:
        with socket.socket() as taken:
            try:
                taken.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise SystemExit("no free port")


def address():
    return f"127.0.0.1:{free_port()}"


class Cluster:
    """A placement driver, stores and a gateway, each a process that can be killed."""

    def __init__(self, binary, scratch, stores=STORES, region_bytes="256KiB"):
        self.binary, self.scratch, self.running = binary, pathlib.Path(scratch), {}
        self.pd, self.http = address(), address()
        self.start("pd", "pd", "--id", "1", "--dir", self.scratch / "pd", "--addr", self.pd)
        for number in range(stores):
            addr, folder = address(), self.scratch / f"store-{number}"
            self.start(addr, "store", "--dir", folder, "--addr", addr, "--pd", self.pd,
                       "--region-bytes", region_bytes)
        self.start("gateway", "gateway", "--addr", self.http, "--pd", self.pd)

    def start(self, name, *args):
        with open(self.scratch / f"{name.replace(':', '-')}.log", "ab") as log:
            command = [self.binary, *map(str, args)]
            self.running[name] = subprocess.Popen(command, stdout=log, stderr=log)

    def kill(self, name):
        process = self.running.pop(name)
        process.kill()
        process.wait()

    def run(self, *args, wait=2 * START_SECONDS, ok=(0,)):
        command = [self.binary, *map(str, args), "--pd", self.pd]
        done = subprocess.run(command, capture_output=True, text=True, timeout=wait)
        assert done.returncode in ok, f"{args}: {done.returncode}: {done.stderr}"
        return done.stdout

    def json(self, *args, ok=(0,)):
        return json.loads(self.run(*args, "-o", "json", ok=ok))

    def wait_healthy(self):
        self.run("ctl", "cluster", "wait", "healthy", "--timeout", f"{START_SECONDS}s")

    def places(self):
        """Bounds and stores of each region, in the order of keys."""
        listed = self.json("ctl", "region", "list")
        return sorted((region["start"], region["id"], sorted(peer["store_id"] for peer in
                       region["peers"])) for region in listed)

    def order(self, *args):
        """Gives an order that is refused while the placement driver has begun something else."""
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until:
            command = [self.binary, *map(str, args), "--pd", self.pd]
            if subprocess.run(command, capture_output=True).returncode == 0:
                return
            time.sleep(0.2)
        self.run(*args)

    def wait_for_rest(self):
        """Until regions have not split and not moved for longer than a heartbeat takes. They may
        begin again at any moment, so nothing may rest upon it: it saves repetitions."""
        known, since = None, time.monotonic()
        until = since + START_SECONDS
        while time.monotonic() < min(until, since + 2):
            found = self.places()
            if found != known:
                known, since = found, time.monotonic()
            time.sleep(0.2)

    def end(self):
        for name in list(self.running):
            self.kill(name)


def check(what, holds):
    print(("ok      " if holds else "FAILED  ") + what, flush=True)
    if not holds:
        raise SystemExit(1)


class Console:
    """The page, what it asked for, and its errors."""

    def __init__(self, browser, addr, **options):
        self.addr = addr
        self.page = browser.new_context(**options).new_page()
        self.asked, self.errors = [], []
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", self.note)

    def note(self, message):
        # A connection that is refused while the server is gone is no fault of the page.
        if message.type == "error" and "net::ERR" not in message.text:
            self.errors.append(message.text)

    def open(self):
        self.page.goto(f"http://{self.addr}/", wait_until="commit")
        self.page.wait_for_selector("#stores tbody tr", timeout=1000 * START_SECONDS)

    def text(self, selector):
        return self.page.inner_text(selector)

    def text_content(self, selector):
        return self.page.text_content(selector)

    def waits(self, body, **names):
        """Waits until the body of a function of these names returns true."""
        script = f"({{ {', '.join(names)} }}) => {{ {body} }}"
        self.page.wait_for_function(script, arg=names, timeout=VISIBLE_MS_MAX, polling=50)

    def count(self, words):
        return self.page.evaluate(f"(words) => {COUNT}", words)

    def becomes_visible(self, what, begun, body, limit_ms=VISIBLE_MS, **names):
        self.waits(body, **names)
        took = round(1000 * (time.monotonic() - begun))
        # A machine that is busy with something else is slow: only what never shows is a failure.
        late = "" if took <= limit_ms else f", promised within {limit_ms}"
        check(f"{what}: visible after {took} ms{late}", True)


def eventually(what, attempt):
    """Attempts it until it holds. Regions split and move at any moment, and with them the tiles."""
    until = time.monotonic() + VISIBLE_MS_MAX / 1000
    while not (done := attempt()) and time.monotonic() < until:
        time.sleep(0.1)
    check(what, done)


def chosen(console):
    """The chosen region, or None."""
    word = console.text("#region").split()[1].rstrip(",")
    return int(word) if word.isdigit() else None


def choose_first(console):
    """Goes to the first tile of the first store by the keyboard; returns the region there."""
    console.page.keyboard.press("m")
    console.page.keyboard.press("Escape")
    console.page.keyboard.press("Home")
    return chosen(console)


def choose_last(console):
    """Goes to the last region, on the first store that has a replica of it."""
    choose_first(console)
    for _ in range(STORES):
        console.page.keyboard.press("End")
        if "to the end:" in console.text("#region"):
            return True
        console.page.keyboard.press("ArrowRight")
    return False


def check_changes(cluster, console):
    cluster.wait_for_rest()
    eventually("the last region is on the map", lambda: choose_last(console))
    region = chosen(console)
    words = f"split from region {region}"
    before = console.count(words)
    begun = time.monotonic()
    cluster.order("ctl", "region", "split", region)
    console.becomes_visible("a split", begun, EVENT, words=words, before=before)
    cluster.wait_healthy()
    led = {}
    for each in cluster.json("ctl", "region", "list"):
        led.setdefault(each["leader_store_id"], []).append(each["id"])
    stores = {store["id"]: store for store in cluster.json("ctl", "store", "list")}
    killed = max(stores, key=lambda store: len(led.get(store, [])))
    drained = next(store for store in stores if store != killed)
    begun = time.monotonic()
    cluster.run("ctl", "store", "drain", drained)
    console.becomes_visible("a drained store", begun, STATE, store=drained, any=["draining"])
    words = f"before on {killed}"
    before = console.count(words)
    begun = time.monotonic()
    cluster.kill(stores[killed]["addr"])
    # Silent at first, then what the placement driver calls it.
    console.becomes_visible("a killed leader", begun, STATE, store=killed,
                            any=["silent", "disconnected", "down"])
    # Longer: an election timeout, and the heartbeat of the next leader.
    console.becomes_visible("the next leader", begun, EVENT, limit_ms=6000, words=words,
                            before=before)


# Pixels of the colour of writes above the lowest part of a chart, where a line of zero lies.
DRAWN = """const canvas = document.querySelector(chart);
const pen = canvas.getContext('2d');
const colour = getComputedStyle(document.querySelector('.write')).color.match(/\\d+/g).map(Number);
const { data } = pen.getImageData(0, 0, canvas.width, canvas.height - 30);
let count = 0;
for (let at = 0; at < data.length; at += 4) {
  if (colour.every((part, index) => Math.abs(data[at + index] - part) < 8)) count += 1;
}
return count > 20;"""


def check_load(cluster, console):
    """A load moves the charts, the stores' table and the colours of the tiles."""
    page = console.page
    command = [cluster.binary, "bench", "run", "--op", "put", "--clients", "16", "--keys", "2000",
               "--seconds", str(5 * VISIBLE_MS_MAX // 1000), "--pd", cluster.pd]
    begun = time.monotonic()
    load = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        # Half a second of it is the load's own start.
        console.becomes_visible("a load in the throughput's chart", begun + 0.5, DRAWN,
                                chart="#throughput")
        console.becomes_visible("its latency in the other chart", begun + 0.5, DRAWN,
                                chart="#latency")
        busy = ("return [...document.querySelectorAll('#stores tbody tr')].some((row) =>"
                " Number(row.cells[7].textContent) > 0 && row.cells[9].textContent.includes('s'));")
        console.becomes_visible("its writes and their latency in the stores' table", begun + 0.5,
                                busy)
        page.keyboard.press("l")
        check("l colours the tiles by load", "busy" in console.text("#legend"))
        # The load's keys lie behind all others.
        eventually("the load of the last region in words", lambda: choose_last(console)
                   and " 0 reads and 0 writes " not in console.text("#region"))
    finally:
        load.kill()
        load.wait()


def check_keyboard(cluster, console):
    page = console.page

    def arrows():
        first = choose_first(console)
        page.keyboard.press("ArrowRight")
        second = chosen(console)
        page.keyboard.press("ArrowLeft")
        return first is not None and second != first == chosen(console)

    def end():
        """A store's last tile need not be the last region: there are more stores than replicas."""
        places = cluster.places()
        first_store = min(store for _, _, stores in places for store in stores)
        choose_first(console)
        page.keyboard.press("End")
        last = [region for _, region, stores in places if first_store in stores][-1]
        return chosen(console) == last

    eventually("arrows go from region to region", arrows)
    eventually("End goes to the last region of the store", end)
    eventually("and from store to store the last of all is reached", lambda: choose_last(console))
    page.keyboard.press("?")
    check("? shows the keys", page.is_visible("#help"))
    page.keyboard.press("Escape")
    check("Esc closes them", not page.is_visible("#help"))
    page.keyboard.press("s")
    check("s goes to the stores", page.evaluate("document.activeElement.id") == "stores")
    page.evaluate("document.activeElement.blur()")
    reached = set()
    for _ in range(12):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.id"))
    check("Tab reaches the buttons and the map", {"theme", "help-open", "map"} <= reached)


def check_looks(browser, cluster):
    ground = "getComputedStyle(document.body).backgroundColor"
    grounds = []
    for scheme in ("light", "dark"):
        console = Console(browser, cluster.http, color_scheme=scheme)
        console.open()
        grounds.append(console.page.evaluate(ground))
        if scheme == "dark":
            console.page.keyboard.press("t")
            check("t chooses light although the system is dark",
                  console.page.evaluate(ground) == grounds[0])
        console.page.context.close()
    check(f"light and dark differ: {grounds}", grounds[0] != grounds[1])
    phone = Console(browser, cluster.http, viewport={"width": 390, "height": 844})
    phone.open()
    wide = phone.page.evaluate("document.documentElement.scrollWidth")
    check(f"a page 390 wide is not scrolled sideways: {wide}", wide <= 390)
    phone.page.context.close()
    still = Console(browser, cluster.http, reduced_motion="reduce")
    still.open()
    style = "getComputedStyle(document.querySelector('main'))"
    moves = still.page.evaluate(f"{style}.transitionDuration")
    check(f"nothing moves where that is asked for: {moves}", moves == "0s")
    still.page.context.close()


def check_stale(cluster, console):
    console.waits("return document.querySelector('#stale').hidden;")
    check("a page that hears its server is not stale", True)
    begun = time.monotonic()
    cluster.kill("gateway")
    body = "return !document.querySelector('#stale').hidden;"
    console.becomes_visible("that it is stale", begun, body, limit_ms=STALE_MS)
    check("it says since when", "What you see is from" in console.text("#stale"))
    cluster.start("gateway", "gateway", "--addr", cluster.http, "--pd", cluster.pd)
    console.waits("return document.querySelector('#stale').hidden;")
    check("it goes on by itself when the server is back", True)


def checks(browser, binary, screenshot):
    with tempfile.TemporaryDirectory() as scratch:
        cluster = Cluster(binary, scratch)
        try:
            cluster.wait_healthy()
            console = Console(browser, cluster.http, viewport={"width": 1280, "height": 1000})
            console.open()
            cluster.run("kv", "load", DATA)
            cluster.wait_healthy()
            cluster.wait_for_rest()
            eventually("the summary tells how many regions there are", lambda:
                       f"Regions{len(cluster.places())}N" in console.text_content("#summary"))
            check_keyboard(cluster, console)
            check_load(cluster, console)
            check_changes(cluster, console)
            if screenshot:
                console.page.screenshot(path=screenshot)
            check_looks(browser, cluster)
            check_stale(cluster, console)
            here = f"http://{cluster.http}/"
            others = [url for url in console.asked if not url.startswith(here)]
            check(f"it asks no other server: {others}", not others)
            check(f"it has no errors: {console.errors}", not console.errors)
        finally:
            cluster.end()


FRAMES = """(seconds) => new Promise((done) => {
  const times = [];
  let last = performance.now();
  const end = last + 1000 * seconds;
  const frame = (now) => {
    times.push(now - last);
    last = now;
    if (now < end) requestAnimationFrame(frame);
    else done(times.sort((a, b) => a - b));
  };
  requestAnimationFrame(frame);
})"""


def heap_mb(session):
    session.send("HeapProfiler.collectGarbage")
    metrics = session.send("Performance.getMetrics")["metrics"]
    used = next(metric["value"] for metric in metrics if metric["name"] == "JSHeapUsedSize")
    return round(used / 1e6, 1)


def many_regions(cluster, count):
    """Splits the cluster into so many regions, by rows of which two are too many for one."""
    with tempfile.NamedTemporaryFile("w", suffix=".tsv") as file:
        for row in range(2 * count):
            file.write(f"{row * 7919 % (2 * count):08}\t{'v' * 600}\n")
        file.flush()
        cluster.run("kv", "load", file.name, wait=600)
    until, found = time.monotonic() + 600, 0
    while found < count:
        assert time.monotonic() < until, f"{found} regions after ten minutes"
        time.sleep(2)
        found = cluster.json("ctl", "cluster", "status", ok=(0, 1))["regions"]
    return found


def figures(browser, binary, seconds):
    """The page over a cluster with 10,000 regions, some of which change all the time."""
    with tempfile.TemporaryDirectory() as scratch:
        cluster = Cluster(binary, scratch, stores=3, region_bytes="1KiB")
        load = None
        try:
            cluster.wait_healthy()
            print(f"{many_regions(cluster, 10_000)} regions", flush=True)
            command = [binary, "bench", "run", "--op", "ycsb-a", "--keys", "2000", "--rate", "300",
                       "--value-bytes", "100", "--seconds", str(seconds + 60), "--pd", cluster.pd]
            load = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            size = {"width": 1280, "height": 1000}
            measure(Console(browser, cluster.http, viewport=size), seconds)
        finally:
            if load:
                load.kill()
                load.wait()
            cluster.end()


def measure(console, seconds):
    begun = time.monotonic()
    console.open()
    console.waits("return Number(document.querySelector('#map').height) > 0;")
    drawn = time.monotonic() - begun
    session = console.page.context.new_cdp_session(console.page)
    session.send("Performance.enable")
    paint = console.page.evaluate(
        "performance.getEntriesByName('first-contentful-paint')[0].startTime")
    print(f"first paint {paint:.0f} ms, all regions drawn after {1000 * drawn:.0f} ms")
    print(f"heap at the beginning: {heap_mb(session)} MB", flush=True)
    times = []
    # A part at a time, because a script that runs for minutes tells nothing if it is cut off.
    for part in range(0, seconds, 30):
        times += console.page.evaluate(FRAMES, min(30, seconds - part))
    times.sort()
    at = lambda share: round(times[min(len(times) - 1, int(share * len(times)))], 1)
    late = sum(1 for took in times if took > 33.4)
    print(f"{len(times)} frames in {seconds} s: median {at(0.5)} ms, p99 {at(0.99)} ms, "
          f"longest {round(times[-1], 1)} ms, over 33 ms {late}")
    print(f"heap after {seconds} s: {heap_mb(session)} MB; errors: {console.errors}")


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("binary")
    arguments.add_argument("--screenshot")
    arguments.add_argument("--figures", type=int)
    given = arguments.parse_args()
    chromium = os.environ.get("CHROMIUM", "/usr/bin/chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        if given.figures:
            figures(browser, given.binary, given.figures)
        else:
            checks(browser, given.binary, given.screenshot)
        browser.close()


if __name__ == "__main__":
    sys.exit(main())

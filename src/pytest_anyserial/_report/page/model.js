// What the page is about: events in the order of time, the bytes of each direction in one piece, lanes to draw.

const NO_BYTES = new Uint8Array(0);
const NOTHING = [];
const NONE = new Set();
const LONG_SILENCE = 100000;
const MOST_DIFFERENCES = 10000;
const PROBLEMS = new Set(["fault", "failed", "mismatch", "not met"]);

function bytesOf(base64) {
  const text = atob(base64);
  const bytes = new Uint8Array(text.length);
  for (let at = 0; at < text.length; at += 1) bytes[at] = text.charCodeAt(at);
  return bytes;
}

// The index of the first item that is not below a value.
function lowerBound(items, value, valueOf = (item) => item) {
  let low = 0;
  let high = items.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (valueOf(items[middle]) < value) low = middle + 1;
    else high = middle;
  }
  return low;
}

// One direction of one port: its bytes, its events, and where the bytes of each begin.
class Stream {
  constructor(port, kind, base64) {
    this.port = port;
    this.kind = kind;
    this.bytes = bytesOf(base64);
    this.events = [];
    this.starts = [];
    this.filled = 0;
    // What the other end has sent, if that can be told byte by byte.
    this.origin = null;
  }

  add(event) {
    event.stream = this;
    event.start = this.filled;
    this.events.push(event);
    this.starts.push(this.filled);
    this.filled += event.size;
  }

  // The position in `events` of the event that has the byte at an offset.
  positionOf(offset) {
    let at = lowerBound(this.starts, offset + 1) - 1;
    while (this.events[at].size === 0) at -= 1;
    return at;
  }
}

class Model {
  constructor(data) {
    this.about = data.about;
    this.broken = data.broken;
    this.ports = data.ports;
    for (const [number, port] of this.ports.entries()) {
      port.streams = {
        sent: new Stream(number, "sent", port.sent),
        received: new Stream(number, "received", port.received),
      };
    }
    this.events = this.listed(data.events, data.kinds, data.texts);
    this.views = data.views.map((view) => this.viewOf(view, data.texts));
    const first = this.events.length ? this.events[0].time : 0;
    const last = this.events.length ? this.events.at(-1).time : 0;
    this.begin = first;
    this.end = Math.max(last, this.begin + 100);
    this.links = this.linked();
    for (const link of this.links) {
      compare(link.port, link.peer);
      compare(link.peer, link.port);
    }
    this.problems = this.events.filter((event) => event.isProblem || event.differs.size > 0);
    this.silences = this.events.filter((event) => event.gap >= LONG_SILENCE);
  }

  // The data has columns: microseconds since the event before, numbers of ports, kinds and texts.
  listed(columns, kinds, texts) {
    let time = 0;
    return columns.gap.map((gap, number) => {
      time += gap;
      const detail = number in columns.detail ? texts[columns.detail[number]] : "";
      return this.event(number, time, gap, columns.port[number], kinds[columns.kind[number]], columns.size[number], detail);
    });
  }

  event(number, time, gap, source, kind, size, detail) {
    const port = this.ports[source] || null;
    const event = { number, time, port, kind, size, detail, gap, stream: null, start: 0, frames: NOTHING, differs: NONE };
    event.isProblem = PROBLEMS.has(kind);
    if (port !== null && kind in port.streams) port.streams[kind].add(event);
    return event;
  }

  viewOf({ name, frames }, texts) {
    const ports = new Map();
    let time = 0;
    for (const [number, gap] of frames.gap.entries()) {
      time += gap;
      const until = time + frames.length[number];
      const port = this.ports[frames.port[number]];
      const [isReceived, isProblem] = [Boolean(frames.flags[number] & 1), Boolean(frames.flags[number] & 2)];
      const frame = { time, until, port, text: texts[frames.text[number]], isProblem, isReceived };
      if (!ports.has(port)) ports.set(port, []);
      ports.get(port).push(frame);
      const stream = port.streams[isReceived ? "received" : "sent"];
      for (let at = lowerBound(stream.events, time, (one) => one.time); at < stream.events.length; at += 1) {
        if (stream.events[at].time > until) break;
        if (stream.events[at].frames === NOTHING) stream.events[at].frames = [];
        stream.events[at].frames.push([name, frame]);
      }
    }
    return { name, ports };
  }

  linked() {
    const links = new Map();
    for (const port of this.ports) {
      if (port.end === null) continue;
      const ends = links.get(port.link) || {};
      // A driver may open the path of an end besides a fixture; bytes then belong to no one stream.
      ends.isAmbiguous = ends.isAmbiguous || port.end in ends;
      ends[port.end] = port;
      links.set(port.link, ends);
    }
    return [...links.values()].filter((ends) => ends.port && ends.peer && !ends.isAmbiguous);
  }

  bytes(event) {
    return event.stream === null ? NO_BYTES : event.stream.bytes.subarray(event.start, event.start + event.size);
  }

  // Blue is what end A sends and end B receives; of a port by itself, what it sends.
  isA(port, kind) {
    return (kind === "sent") === (port.end !== "peer");
  }

  lanes() {
    const lanes = [];
    const done = new Set();
    for (const link of this.links) {
      const { port, peer } = link;
      lanes.push(this.states(port), ...this.levels(port));
      lanes.push(this.data(port, "sent"), this.data(peer, "received"));
      lanes.push(this.data(peer, "sent"), this.data(port, "received"));
      lanes.push(this.states(peer), ...this.levels(peer));
      done.add(port).add(peer);
    }
    for (const port of this.ports) {
      if (done.has(port)) continue;
      lanes.push(this.states(port), ...this.levels(port), this.data(port, "sent"), this.data(port, "received"));
    }
    const script = this.events.filter((event) => event.port === null);
    if (script.length) lanes.push({ type: "states", label: "script", items: script, height: 22 });
    return lanes.filter((lane) => lane.items.length > 0);
  }

  frameLanes(view) {
    return this.ports.filter((port) => view.ports.has(port)).map((port) => ({
      type: "frames", label: `${port.name}: ${view.name}`, items: view.ports.get(port), height: 22,
    }));
  }

  data(port, kind) {
    const label = kind === "sent" ? `${port.name} sent` : `${port.name} received`;
    const items = port.streams[kind].events;
    return { type: "bytes", label, items, height: 28, isA: this.isA(port, kind), isReceived: kind === "received" };
  }

  states(port) {
    const items = this.events.filter((event) => event.port === port && event.stream === null);
    return { type: "states", label: port.name, items, height: 22 };
  }

  // RTS and DTR of a port, as far as the test has set them.
  levels(port) {
    const lanes = [];
    for (const line of ["RTS", "DTR"]) {
      const items = [];
      for (const event of this.events) {
        const found = event.port === port && event.kind === "lines" && event.detail.match(`\\b${line} (on|off)\\b`);
        if (found) items.push({ time: event.time, isOn: found[1] === "on", event });
      }
      lanes.push({ type: "level", label: `${port.name} ${line}`, items, height: 20 });
    }
    return lanes;
  }
}

// Where the bytes that arrived are not those that were sent; only where nothing is missing, so that it is certain.
function compare(sender, receiver) {
  const from = sender.streams.sent.bytes;
  const { received } = receiver.streams;
  const to = received.bytes;
  if (sender.notKept || receiver.notKept || from.length !== to.length) return;
  received.origin = from;
  for (let at = 0, found = 0; at < from.length && found < MOST_DIFFERENCES; at += 1) {
    if (from[at] === to[at]) continue;
    const event = received.events[received.positionOf(at)];
    if (event.differs === NONE) event.differs = new Set();
    event.differs.add(at - event.start);
    found += 1;
  }
}

function duration(microseconds) {
  if (microseconds === 0) return "0";
  const size = Math.abs(microseconds);
  if (size >= 1e6) return `${trimmed(microseconds / 1e6)} s`;
  if (size >= 1e3) return `${trimmed(microseconds / 1e3)} ms`;
  return `${trimmed(microseconds)} \u00b5s`;
}

function trimmed(number) {
  return String(Number(number.toPrecision(4)));
}

function moment(microseconds) {
  return `${(microseconds / 1e6).toFixed(6)}`;
}

const HEX = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, "0"));

function hexOf(bytes, limit = bytes.length) {
  const shown = Array.from(bytes.subarray(0, limit), (byte) => HEX[byte]).join(" ");
  return bytes.length > limit ? `${shown} \u2026` : shown;
}

function letter(byte) {
  if (byte >= 0x20 && byte < 0x7f) return String.fromCharCode(byte);
  return { 9: "\u00bb", 10: "\u00b6" }[byte] || "\u00b7";
}

function textOf(bytes, limit = bytes.length) {
  const shown = Array.from(bytes.subarray(0, limit), letter).join("");
  return bytes.length > limit ? `${shown}\u2026` : shown;
}

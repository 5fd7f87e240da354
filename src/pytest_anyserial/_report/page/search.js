// Finding bytes across events, and words in what is said about them.

const MOST_HITS = 20000;

// The byte patterns that a query may stand for: hex digits, and the text itself with \r, \n, \t, \0 and \xNN.
function patternsOf(query) {
  const patterns = [];
  const digits = query.replace(/0x/gi, "").replace(/[\s,:]+/g, "");
  if (/^([0-9a-f]{2})+$/i.test(digits)) patterns.push(digits.match(/../g).map((pair) => parseInt(pair, 16)));
  const known = { r: 13, n: 10, t: 9, 0: 0, "\\": 92 };
  const text = [];
  for (const part of query.match(/\\x[0-9a-f]{2}|\\[rnt0\\]|[^]/gi) || []) {
    if (part.length === 4) text.push(parseInt(part.slice(2), 16));
    else if (part.length === 2) text.push(known[part[1].toLowerCase()]);
    else text.push(...new TextEncoder().encode(part));
  }
  if (text.length) patterns.push(text);
  return patterns;
}

function* occurrences(bytes, pattern) {
  for (let at = bytes.indexOf(pattern[0]); at !== -1; at = bytes.indexOf(pattern[0], at + 1)) {
    if (pattern.every((byte, offset) => bytes[at + offset] === byte)) yield at;
  }
}

// Hits by event: the ranges of bytes that were found in it, none where its words were.
class Search {
  constructor(model, query) {
    this.ranges = new Map();
    this.events = [];
    this.isCut = false;
    this.number = 0;
    if (!query) return;
    for (const port of model.ports) {
      for (const stream of Object.values(port.streams)) {
        for (const pattern of patternsOf(query)) this.look(stream, pattern);
      }
    }
    const words = query.toLowerCase();
    for (const event of model.events) {
      if (this.isCut) break;
      const found = (text) => text.toLowerCase().includes(words);
      if (found(event.kind) || found(event.detail) || event.frames.some(([, frame]) => found(frame.text))) this.add(event);
    }
    this.events = [...this.ranges.keys()].sort((one, other) => one.number - other.number);
  }

  look(stream, pattern) {
    for (const offset of occurrences(stream.bytes, pattern)) {
      if (this.isCut) return;
      const last = offset + pattern.length;
      for (let at = stream.positionOf(offset); at < stream.events.length && stream.starts[at] < last; at += 1) {
        const event = stream.events[at];
        const begin = Math.max(offset, event.start) - event.start;
        this.add(event, [begin, Math.min(last, event.start + event.size) - event.start]);
      }
    }
  }

  add(event, range) {
    if (!this.ranges.has(event)) {
      this.ranges.set(event, []);
      this.isCut = this.ranges.size >= MOST_HITS;
    }
    if (range) this.ranges.get(event).push(range);
  }

  has(event) {
    return this.ranges.has(event);
  }

  marks(event, offset) {
    const ranges = this.ranges.get(event);
    return ranges !== undefined && ranges.some(([begin, end]) => begin <= offset && offset < end);
  }
}

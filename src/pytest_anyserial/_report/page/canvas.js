// The lanes: time from left to right, one lane per direction, port and view. Only what is visible is drawn.

const RULER = 22;
const SILENCES = 20;
const LETTER = 6.7;
const PADDING = 4;
const GUTTER = 176;
// Of what is drawn as one block: pixels between its first and last event, and events that are looked at.
const DENSE = 8;
const MOST_ITEMS = 200;
const TIGHT = 640;
const LABEL = 15;

function colours() {
  const style = getComputedStyle(document.documentElement);
  const names = ["paper", "ink", "quiet", "line", "stripe", "a", "a-soft", "b", "b-soft", "bad", "bad-soft", "good",
    "good-soft", "hit", "hit-ink", "choice", "focus", "mono"];
  return Object.fromEntries(names.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
}

// A canvas in device pixels, cleared, with a context that counts in pixels of the page.
function prepared(canvas, height) {
  const ratio = window.devicePixelRatio || 1;
  const width = canvas.clientWidth;
  canvas.style.height = `${height}px`;
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  context.textBaseline = "middle";
  return context;
}

class Lanes {
  constructor(canvas, model) {
    this.canvas = canvas;
    this.model = model;
    this.lanes = [];
    this.top = RULER + SILENCES;
    this.transfers = model.events.filter((event) => event.stream !== null);
  }

  show(lanes) {
    this.lanes = lanes;
  }

  // Asked of the page once per drawing, because the answer may make the browser lay it out.
  measure() {
    const width = this.canvas.clientWidth;
    this.left = width < TIGHT ? 0 : GUTTER;
    this.width = Math.max(1, width - this.left);
    this.isTight = this.left === 0;
  }

  timeAt(x, range) {
    return range.start + ((x - this.left) / this.width) * range.span;
  }

  draw(range, state) {
    this.measure();
    let y = this.top;
    for (const lane of this.lanes) {
      lane.y = y + (this.isTight ? LABEL : 0);
      y = lane.y + lane.height;
    }
    this.height = y + 2;
    this.context = prepared(this.canvas, this.height);
    this.palette = state.palette;
    this.range = range;
    this.state = state;
    this.context.font = `11px ${state.palette.mono}`;
    this.stripes();
    this.context.save();
    this.context.beginPath();
    this.context.rect(this.left, 0, this.width, this.height);
    this.context.clip();
    this.ruler();
    this.silences();
    this.problems();
    for (const lane of this.lanes) this.drawLane(lane);
    this.cursor();
    this.context.restore();
    this.labels();
  }

  drawLane(lane) {
    if (lane.type === "bytes") this.drawBytes(lane);
    else if (lane.type === "frames") this.drawFrames(lane);
    else if (lane.type === "level") this.drawLevel(lane);
    else this.drawStates(lane);
  }

  x(time) {
    return this.left + ((time - this.range.start) / this.range.span) * this.width;
  }

  stripes() {
    const { context, palette } = this;
    for (const [number, lane] of this.lanes.entries()) {
      if (number % 2) continue;
      context.fillStyle = palette.stripe;
      const above = this.isTight ? LABEL : 0;
      context.fillRect(0, lane.y - above, this.left + this.width, lane.height + above);
    }
  }

  labels() {
    const { context, palette } = this;
    context.textAlign = "left";
    for (const lane of this.lanes) {
      context.fillStyle = lane.isA === undefined ? palette.quiet : palette[lane.isA ? "a" : "b"];
      const y = this.isTight ? lane.y - LABEL / 2 : lane.y + lane.height / 2;
      context.fillText(fitted(lane.label, this.isTight ? this.width : GUTTER - 14), 8, y);
    }
    if (!this.isTight) {
      context.strokeStyle = palette.line;
      context.strokeRect(GUTTER - 0.5, -1, 0, this.height + 2);
    }
  }

  ruler() {
    const { context, palette, range } = this;
    const step = niceStep((range.span / this.width) * 90);
    context.textAlign = "left";
    for (let tick = Math.ceil(range.start / step); tick * step <= range.start + range.span; tick += 1) {
      const x = Math.round(this.x(tick * step)) + 0.5;
      context.strokeStyle = palette.line;
      context.beginPath();
      context.moveTo(x, 6);
      context.lineTo(x, this.height);
      context.stroke();
      context.fillStyle = palette.quiet;
      context.fillText(tickLabel(tick * step, step), x + 4, RULER / 2);
    }
  }

  // Between bytes, where there is room to say for how long nothing passed.
  silences() {
    const { context, palette, range } = this;
    const least = (range.span / this.width) * 56;
    const y = RULER + SILENCES / 2;
    context.textAlign = "center";
    const begin = Math.max(1, lowerBound(this.transfers, range.start, (event) => event.time));
    for (let at = begin; at < this.transfers.length; at += 1) {
      const [from, to] = [this.transfers[at - 1].time, this.transfers[at].time];
      if (from > range.start + range.span) break;
      if (to - from < least) {
        // Skip what is dense: the next gap of this size ends at least so much later.
        at = Math.max(at, lowerBound(this.transfers, from + least, (event) => event.time) - 1);
        continue;
      }
      const [x, until] = [Math.max(this.x(from), this.left) + 2, Math.min(this.x(to), this.left + this.width) - 2];
      const label = duration(to - from);
      const half = (label.length * LETTER) / 2 + 5;
      const middle = (x + until) / 2;
      if (until - x < 2 * half) continue;
      context.strokeStyle = palette.line;
      context.beginPath();
      for (const [one, other] of [[x, middle - half], [middle + half, until]]) {
        context.moveTo(one, y);
        context.lineTo(other, y);
      }
      for (const end of [x, until]) {
        context.moveTo(end, y - 4);
        context.lineTo(end, y + 4);
      }
      context.stroke();
      context.fillStyle = to - from >= LONG_SILENCE ? palette.ink : palette.quiet;
      context.fillText(label, middle, y);
    }
  }

  problems() {
    const { context, palette, range, model } = this;
    context.strokeStyle = palette.bad;
    context.setLineDash([3, 3]);
    let drawn = -10;
    const begin = lowerBound(model.problems, range.start, (event) => event.time);
    for (let at = begin; at < model.problems.length && model.problems[at].time <= range.start + range.span; at += 1) {
      const x = Math.round(this.x(model.problems[at].time)) + 0.5;
      if (x - drawn < 2) continue;
      drawn = x;
      context.beginPath();
      context.moveTo(x, this.top);
      context.lineTo(x, this.height);
      context.stroke();
    }
    context.setLineDash([]);
  }

  cursor() {
    const { context, palette, state } = this;
    const lines = [[state.hover, palette.quiet], [state.selected && state.selected.time, palette.focus]];
    for (const [time, colour] of lines) {
      if (time === null) continue;
      const x = Math.round(this.x(time)) + 0.5;
      context.strokeStyle = colour;
      context.beginPath();
      context.moveTo(x, RULER);
      context.lineTo(x, this.height);
      context.stroke();
    }
  }

  // Calls `draw(first, x, room, items, extent)` for what is visible; items less than two pixels apart are one call.
  visible(lane, draw) {
    const { range } = this;
    const items = lane.items;
    const pixel = range.span / this.width;
    const timeOf = (item) => item.time;
    let at = Math.max(0, lowerBound(items, range.start, timeOf) - 1);
    while (at < items.length && items[at].time <= range.start + range.span) {
      let next = at + 1;
      while (next < items.length && items[next].time - items[next - 1].time < 2 * pixel) {
        // Where it is dense, look at one item per pixel.
        next = Math.max(next + 1, lowerBound(items, items[next].time, timeOf));
        if (this.x(items[next - 1].time) - this.x(items[at].time) > DENSE) break;
      }
      const x = this.x(items[at].time);
      const end = next < items.length ? this.x(items[next].time) : this.left + this.width + GUTTER;
      const extent = this.x(items[next - 1].time) - x;
      draw(items[at], x, Math.max(2, end - x - 1), items.slice(at, Math.min(next, at + MOST_ITEMS)), extent);
      at = next;
    }
  }

  // Events that are close to each other are one block, with the bytes of all of them as far as there is room.
  block(lane, x, room, all, extent) {
    const { context, palette, state } = this;
    const colour = palette[lane.isA ? "a" : "b"];
    const y = lane.y + 3;
    const height = lane.height - 6;
    const isBad = all.some((event) => event.differs.size);
    const bytes = all.reduce((sum, event) => sum + event.size, 0);
    const size = state.isHex ? 3 * LETTER : LETTER;
    const last = state.isHex ? LETTER : 0;
    const fits = Math.max(0, Math.floor((room - 2 * PADDING + last) / size));
    const isWhole = bytes <= fits;
    const shown = isWhole ? bytes : Math.max(0, Math.floor((room - 2 * PADDING - LETTER) / size));
    const width = isWhole ? bytes * size - last + 2 * PADDING : Math.min(room, shown * size + LETTER + 2 * PADDING);
    if (width < 8) {
      context.fillStyle = isBad ? palette.bad : colour;
      context.fillRect(x, y, Math.max(2, Math.min(extent + 2, room + 1)), height);
    } else {
      context.fillStyle = palette[lane.isA ? "a-soft" : "b-soft"];
      context.beginPath();
      context.roundRect(x + 0.5, y + 0.5, width - 1, height - 1, 3);
      context.fill();
      const isSelected = all.includes(state.selected);
      context.strokeStyle = isSelected ? palette.focus : colour;
      context.lineWidth = isSelected ? 2 : 1;
      context.setLineDash(lane.isReceived && !isSelected ? [3, 2] : []);
      context.stroke();
      context.setLineDash([]);
      context.lineWidth = 1;
      context.fillStyle = colour;
      context.fillRect(x, y, 2.5, height);
      this.letters(lane, x + PADDING, shown, size, all);
      if (!isWhole) {
        context.fillStyle = isBad ? palette.bad : palette.quiet;
        context.fillText("\u2026", x + width - PADDING - LETTER + 1, lane.y + lane.height / 2 + 0.5);
      }
    }
    if (all.some((event) => state.search.has(event))) this.flag(x, lane.y);
  }

  letters(lane, x, shown, size, all) {
    const { context, palette, state, model } = this;
    const middle = lane.y + lane.height / 2 + 0.5;
    context.textAlign = "left";
    let place = 0;
    for (const event of all) {
      const bytes = model.bytes(event);
      for (let at = 0; at < bytes.length && place < shown; at += 1, place += 1) {
        const from = x + place * size;
        const isWrong = event.differs.has(at);
        if (isWrong || state.search.marks(event, at)) {
          context.fillStyle = isWrong ? palette.bad : palette.hit;
          context.fillRect(from - 1, lane.y + 5, (state.isHex ? 2 : 1) * LETTER + 2, lane.height - 10);
          context.fillStyle = isWrong ? palette.paper : palette["hit-ink"];
        } else {
          context.fillStyle = palette.ink;
        }
        context.fillText(state.isHex ? HEX[bytes[at]] : letter(bytes[at]), from, middle);
      }
    }
  }

  flag(x, y) {
    this.context.fillStyle = this.palette.hit;
    this.context.fillRect(x - 1, y, 7, 4);
  }

  drawBytes(lane) {
    this.visible(lane, (_, x, room, all, extent) => this.block(lane, x, room, all, extent));
  }

  drawStates(lane) {
    this.visible(lane, (event, x, room, all) => {
      const isBad = all.some((one) => one.isProblem);
      const detail = event.detail.split("\n")[0];
      // A break is to scale.
      const seconds = event.kind === "break" ? parseFloat(detail) || 0 : 0;
      const colour = isBad ? this.palette.bad : event.kind === "met" ? this.palette.good : this.palette[seconds ? "ink" : "quiet"];
      const long = Math.min((seconds * 1e6 * this.width) / this.range.span, this.width);
      this.note(lane, x, room, detail ? `${event.kind} ${detail}` : event.kind, colour, isBad, long);
      if (all.some((one) => this.state.search.has(one))) this.flag(x, lane.y);
    });
  }

  drawFrames(lane) {
    this.visible(lane, (frame, x, room, all) => {
      const isBad = all.some((one) => one.isProblem);
      const colour = this.palette[isBad ? "bad" : this.model.isA(frame.port, frame.isReceived ? "received" : "sent") ? "a" : "b"];
      this.note(lane, x, room, `${frame.isReceived ? "\u2190" : "\u2192"} ${frame.text}`, colour, isBad, 0);
    });
  }

  note(lane, x, room, text, colour, isBad, long) {
    const { context, palette } = this;
    const y = lane.y + 3;
    const height = lane.height - 6;
    const label = room < 18 ? "" : fitted(text, room - 8);
    if ((isBad && label) || long > 2) {
      context.fillStyle = palette[isBad ? "bad-soft" : "choice"];
      context.fillRect(x, y, Math.max(long, isBad && label ? label.length * LETTER + 9 : 0), height);
    }
    context.fillStyle = colour;
    context.fillRect(x, y, 2.5, height);
    context.textAlign = "left";
    if (label) context.fillText(label, x + 6, lane.y + lane.height / 2 + 0.5);
  }

  // A line that was never set before has no level yet.
  drawLevel(lane) {
    const { context, palette } = this;
    const y = (isOn) => lane.y + (isOn ? 5 : lane.height - 5) + 0.5;
    context.strokeStyle = palette.quiet;
    context.lineWidth = 1.5;
    context.beginPath();
    let before = null;
    const begin = Math.max(0, lowerBound(lane.items, this.range.start, (item) => item.time) - 1);
    for (let at = begin; at < lane.items.length; at += 1) {
      const item = lane.items[at];
      const x = this.x(item.time);
      if (before === null) context.moveTo(x, y(item.isOn));
      else {
        context.lineTo(x, y(before.isOn));
        context.lineTo(x, y(item.isOn));
      }
      before = item;
      if (x > this.left + this.width) break;
    }
    if (before !== null) context.lineTo(this.left + this.width, y(before.isOn));
    context.stroke();
    context.lineWidth = 1;
  }

  // The event at a place: in its lane the last that begins before it, or one that is close.
  eventAt(x, y, range) {
    const lane = this.lanes.find((one) => y >= one.y - (this.isTight ? LABEL : 0) && y < one.y + one.height);
    const items = lane === undefined ? this.model.events : lane.items;
    if (!items.length) return null;
    const time = this.timeAt(x, range);
    const near = (range.span / this.width) * 6;
    let at = lowerBound(items, time + near, (item) => item.time) - 1;
    at = Math.max(0, at);
    return this.eventOf(lane, items[at]);
  }

  eventOf(lane, item) {
    if (lane === undefined || lane.type === "bytes" || lane.type === "states") return item;
    if (lane.type === "level") return item.event;
    const { events } = item.port.streams[item.isReceived ? "received" : "sent"];
    return events[Math.min(lowerBound(events, item.time, (event) => event.time), events.length - 1)];
  }
}

function fitted(text, width) {
  const fits = Math.floor(width / LETTER);
  return text.length <= fits ? text : fits > 1 ? `${text.slice(0, fits - 1)}\u2026` : "";
}

function niceStep(least) {
  const power = 10 ** Math.floor(Math.log10(least));
  return power * [1, 2, 5, 10].find((factor) => factor * power >= least);
}

function tickLabel(time, step) {
  const [unit, size] = step >= 1e5 ? ["s", 1e6] : step >= 100 ? ["ms", 1e3] : ["\u00b5s", 1];
  const digits = Math.max(0, Math.ceil(-Math.log10(step / size) - 1e-9));
  return `${(time / size).toFixed(digits)} ${unit}`;
}

// All events at once: how many there are at each place, and what part the lanes show.
function drawOverview(canvas, model, range, palette) {
  const height = 30;
  const context = prepared(canvas, height);
  const width = canvas.clientWidth;
  const span = model.end - model.begin;
  const x = (time) => ((time - model.begin) / span) * width;
  if (canvas.counts === undefined || canvas.counts.length !== width) {
    canvas.counts = new Float64Array(width);
    for (const event of model.events) canvas.counts[Math.min(width - 1, Math.floor(x(event.time)))] += 1;
  }
  const most = Math.log2(1 + canvas.counts.reduce((one, other) => Math.max(one, other), 1));
  context.fillStyle = palette.quiet;
  for (let at = 0; at < width; at += 1) {
    if (canvas.counts[at] === 0) continue;
    const size = Math.max(3, (Math.log2(1 + canvas.counts[at]) / most) * (height - 8));
    context.fillRect(at, (height - size) / 2, 1.5, size);
  }
  context.fillStyle = palette.bad;
  let drawn = -2;
  for (const event of model.problems) {
    const place = Math.floor(x(event.time));
    if (place - drawn >= 1) context.fillRect(place - 0.5, 0, 2, height);
    drawn = place;
  }
  const [from, to] = [x(range.start), x(range.start + range.span)];
  context.fillStyle = palette.focus;
  context.globalAlpha = 0.16;
  context.fillRect(from, 0, Math.max(2, to - from), height);
  context.globalAlpha = 1;
  context.strokeStyle = palette.focus;
  context.strokeRect(from + 0.5, 0.5, Math.max(2, to - from - 1), height - 1);
}

// The page: what is selected, searched and in sight, and what keys, pointers and buttons do to it.

const NARROWEST = 10;
const part = (id) => document.getElementById(id);
const model = new Model(JSON.parse(part("data").textContent));
const everything = () => {
  const margin = (model.end - model.begin) * 0.02;
  return { start: model.begin - margin, span: model.end - model.begin + 6 * margin };
};
const state = { selected: null, hover: null, search: new Search(model, ""), isHex: true, view: null, palette: colours() };
const lanes = new Lanes(part("lanes"), model);
lanes.measure();
const rows = new Rows(part("list"), part("rows"), model, state, (event) => select(event));
let range = everything();
let isWaiting = false;

function redraw() {
  if (isWaiting) return;
  isWaiting = true;
  requestAnimationFrame(() => {
    isWaiting = false;
    lanes.draw(range, state);
    drawOverview(part("overview"), model, range, state.palette);
    rows.draw();
    part("range").textContent = inSight();
  });
}

function inSight() {
  const shown = `${moment(range.start)} s to ${moment(range.start + range.span)} s (${duration(range.span)})`;
  if (state.hover === null) return shown;
  const from = state.selected === null ? "" : `, ${duration(state.hover - state.selected.time)} from the selected event`;
  return `${shown}; pointer at ${moment(state.hover)} s${from}`;
}

function look(start, span) {
  const whole = everything();
  const wanted = Math.min(Math.max(span, NARROWEST), whole.span);
  range = { start: Math.min(Math.max(start, whole.start), whole.start + whole.span - wanted), span: wanted };
  redraw();
}

function zoom(factor, time) {
  const middle = time === undefined ? anchor() : time;
  const share = (middle - range.start) / range.span;
  look(middle - share * range.span * factor, range.span * factor);
}

// Buttons and keys zoom at the selected event if it is in sight.
function anchor() {
  const time = state.selected === null ? -Infinity : state.selected.time;
  return time >= range.start && time <= range.start + range.span ? time : range.start + range.span / 2;
}

function hover(time) {
  state.hover = time;
  redraw();
}

function select(event) {
  state.selected = event;
  showDetail(part("detail"), model, state);
  rows.reveal(event);
  if (event.time < range.start || event.time > range.start + range.span) look(event.time - range.span / 2, range.span);
  redraw();
}

function step(by) {
  if (!model.events.length) return;
  const at = state.selected === null ? (by > 0 ? 0 : model.events.length - 1) : state.selected.number + by;
  select(model.events[Math.min(Math.max(at, 0), model.events.length - 1)]);
}

// The next or previous of some events, round the end.
function jump(events, by) {
  if (!events.length) return;
  const here = state.selected === null ? -1 : state.selected.number;
  const after = lowerBound(events, by > 0 ? here + 1 : here, (event) => event.number);
  const at = by > 0 ? after : after - 1;
  select(events[(at + events.length) % events.length]);
}

function find(query) {
  state.search = new Search(model, query);
  const number = state.search.events.length;
  const more = state.search.isCut ? "more than " : "";
  part("hits").textContent = query ? (number ? `${more}${number} ${number === 1 ? "hit" : "hits"}` : "not found") : "";
  const { selected } = state;
  if (number && (selected === null || !state.search.has(selected))) jump(state.search.events, 1);
  else showDetail(part("detail"), model, state);
  redraw();
}

function showBytes(isHex) {
  state.isHex = isHex;
  part("bytes").value = isHex ? "hex" : "text";
  redraw();
}

function showView(number) {
  const view = number === -1 ? null : model.views[number];
  lanes.show([...(view === null ? [] : model.frameLanes(view)), ...model.lanes()]);
  redraw();
}

// As near as it takes to tell the selected event from the one before or after it.
function closer() {
  if (state.selected === null) return;
  const { number, time } = state.selected;
  const after = model.events.slice(number).find((event) => event.time > time);
  const before = model.events.slice(0, number).reverse().find((event) => event.time < time);
  const gaps = [after, before].filter(Boolean).map((event) => Math.abs(event.time - time));
  const span = Math.max(NARROWEST, 8 * Math.min(...gaps, 1e6));
  look(time - span / 2, span < range.span ? span : range.span / 2);
}

const KEYS = {
  ArrowLeft: () => look(range.start - range.span / 8, range.span),
  ArrowRight: () => look(range.start + range.span / 8, range.span),
  ArrowUp: () => step(-1),
  ArrowDown: () => step(1),
  PageUp: () => step(-20),
  PageDown: () => step(20),
  Home: () => model.events.length && select(model.events[0]),
  End: () => model.events.length && select(model.events.at(-1)),
  Enter: closer,
  "+": () => zoom(1 / 2),
  "=": () => zoom(1 / 2),
  "-": () => zoom(2),
  0: () => look(everything().start, Infinity),
  "/": () => part("query").focus(),
  n: () => jump(state.search.events, 1),
  N: () => jump(state.search.events, -1),
  f: () => jump(model.problems, 1),
  F: () => jump(model.problems, -1),
  g: () => jump(model.silences, 1),
  G: () => jump(model.silences, -1),
  x: () => showBytes(!state.isHex),
  "?": () => part("keys").showModal(),
};

function listen() {
  document.addEventListener("keydown", (press) => {
    const { target } = press;
    if (press.ctrlKey || press.metaKey || press.altKey || part("keys").open) return;
    if (target === part("query")) {
      if (press.key === "Enter") jump(state.search.events, press.shiftKey ? -1 : 1);
      if (press.key === "Escape") part("lanes").focus();
      return;
    }
    if (target.matches("select") || (target.matches("button") && press.key === "Enter")) return;
    const act = KEYS[press.key];
    if (act === undefined) return;
    press.preventDefault();
    act();
  });
  let debounce = 0;
  part("query").addEventListener("input", () => {
    clearTimeout(debounce);
    debounce = setTimeout(() => find(part("query").value), 120);
  });
  const buttons = {
    previous: KEYS.N, next: KEYS.n, problem: KEYS.f, out: KEYS["-"], in: KEYS["+"], fit: KEYS[0], help: KEYS["?"],
  };
  for (const [id, act] of Object.entries(buttons)) part(id).addEventListener("click", act);
  part("bytes").addEventListener("change", () => showBytes(part("bytes").value === "hex"));
  part("view").addEventListener("change", () => showView(Number(part("view").value)));
  listenToLanes(part("lanes"));
  listenToOverview(part("overview"));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    state.palette = colours();
    redraw();
  });
  new ResizeObserver(() => {
    rows.measure();
    redraw();
  }).observe(document.body);
}

// One pointer drags, two pinch, a short touch selects.
function listenToLanes(canvas) {
  const pointers = new Map();
  let moved = 0;
  const place = (pointer) => pointer.clientX - canvas.getBoundingClientRect().left;
  canvas.addEventListener("wheel", (turn) => {
    turn.preventDefault();
    if (turn.shiftKey || Math.abs(turn.deltaX) > Math.abs(turn.deltaY)) {
      look(range.start + ((turn.deltaX || turn.deltaY) / lanes.width) * range.span, range.span);
    } else zoom(2 ** Math.max(-1, Math.min(1, turn.deltaY / 200)), lanes.timeAt(place(turn), range));
  }, { passive: false });
  canvas.addEventListener("pointerdown", (pointer) => {
    canvas.setPointerCapture(pointer.pointerId);
    pointers.set(pointer.pointerId, place(pointer));
    if (pointers.size === 1) moved = 0;
  });
  canvas.addEventListener("pointermove", (pointer) => {
    if (!pointers.has(pointer.pointerId)) {
      if (pointer.pointerType === "mouse") hover(lanes.timeAt(place(pointer), range));
      return;
    }
    const [before, now] = [pointers.get(pointer.pointerId), place(pointer)];
    moved += Math.abs(now - before);
    if (pointers.size === 1) {
      look(range.start - ((now - before) / lanes.width) * range.span, range.span);
    } else {
      const [other] = [...pointers].find(([id]) => id !== pointer.pointerId).slice(1);
      const [was, is] = [Math.max(10, Math.abs(before - other)), Math.max(10, Math.abs(now - other))];
      zoom(was / is, lanes.timeAt((now + other) / 2, range));
    }
    pointers.set(pointer.pointerId, now);
  });
  canvas.addEventListener("pointerleave", () => hover(null));
  const release = (pointer) => pointers.delete(pointer.pointerId);
  canvas.addEventListener("pointercancel", release);
  canvas.addEventListener("pointerup", (pointer) => {
    release(pointer);
    if (moved > 4) return;
    const y = pointer.clientY - canvas.getBoundingClientRect().top;
    const event = lanes.eventAt(place(pointer), y, range);
    if (event) select(event);
  });
}

function listenToOverview(canvas) {
  const go = (pointer) => {
    const box = canvas.getBoundingClientRect();
    const time = model.begin + ((pointer.clientX - box.left) / box.width) * (model.end - model.begin);
    look(time - range.span / 2, range.span);
  };
  canvas.addEventListener("pointerdown", (pointer) => {
    canvas.setPointerCapture(pointer.pointerId);
    go(pointer);
  });
  canvas.addEventListener("pointermove", (pointer) => {
    if (pointer.buttons & 1) go(pointer);
  });
}

function showAbout() {
  const { test, reason, ...rest } = model.about;
  part("test").textContent = test;
  document.title = `${test}: serial timeline`;
  part("reason").textContent = reason || "";
  part("reason").hidden = !reason;
  const fact = (name, value, className) => {
    const pair = element("div");
    pair.append(element("dt", "", name), element("dd", className, value));
    part("about").append(pair);
  };
  for (const [name, value] of Object.entries(rest)) fact(name, value);
  for (const port of model.ports) {
    fact(port.name, port.adapter === port.path ? port.path : `${port.path}, ${port.adapter}`);
    if (port.notKept) fact("not kept", `${port.notKept} earlier events of ${port.name}`, "bad");
  }
  for (const text of model.broken) fact("view", text, "bad");
  const choice = part("view");
  for (const [number, name] of [[-1, "none"], ...model.views.map((view, at) => [at, view.name])]) {
    const option = element("option", "", name);
    option.value = number;
    choice.append(option);
  }
  part("views").hidden = !model.views.length;
  choice.value = String(model.views.length ? 0 : -1);
  part("problem").hidden = !model.problems.length;
}

showAbout();
rows.measure();
showDetail(part("detail"), model, state);
showView(model.views.length ? 0 : -1);
if (model.views.length && model.views[0].name === "Text lines") showBytes(false);
listen();
// Who opens this page wants to know what went wrong.
const first = model.problems.find((event) => event.kind === "mismatch") || model.problems[0];
if (first !== undefined) select(first);

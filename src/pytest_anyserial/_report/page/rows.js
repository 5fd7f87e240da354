// The list: only the rows in sight are in the document. And what is known of the selected event.

const SPARE = 8;
const HEX_SHOWN = 16;
const DUMP_SHOWN = 4096;
const DIFFERENCES_SHOWN = 8;

function element(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

// `serial_port -> serial_peer` in short: an arrow away from the port for what it sends.
function whatOf(event) {
  if (event.port === null) return `script ${event.kind}`;
  if (event.stream === null) return `${event.port.name} ${event.kind}`;
  return `${event.port.name} ${event.kind === "sent" ? "\u2192" : "\u2190"}`;
}

class Rows {
  constructor(list, holder, model, state, select) {
    this.list = list;
    this.holder = holder;
    this.model = model;
    this.state = state;
    this.select = select;
    this.shown = new Map();
    list.addEventListener("scroll", () => this.draw());
    holder.addEventListener("click", (click) => {
      const row = click.target.closest(".row");
      if (row !== null) this.select(this.model.events[Number(row.dataset.number)]);
    });
  }

  measure() {
    this.size = parseFloat(getComputedStyle(document.documentElement).getPropertyValue("--row"));
    this.holder.style.height = `${this.model.events.length * this.size}px`;
    this.clear();
  }

  clear() {
    for (const row of this.shown.values()) row.remove();
    this.shown.clear();
  }

  draw() {
    const { state } = this;
    const { events } = this.model;
    const first = Math.max(0, Math.floor(this.list.scrollTop / this.size) - SPARE);
    const last = Math.min(events.length, Math.ceil((this.list.scrollTop + this.list.clientHeight) / this.size) + SPARE);
    for (const [number, row] of this.shown) {
      if (number < first || number >= last) {
        row.remove();
        this.shown.delete(number);
      }
    }
    for (let number = first; number < last; number += 1) {
      if (!this.shown.has(number)) {
        this.shown.set(number, this.row(events[number]));
        this.holder.append(this.shown.get(number));
      }
      const row = this.shown.get(number);
      row.classList.toggle("hit", state.search.has(events[number]));
      row.setAttribute("aria-selected", String(events[number] === state.selected));
    }
    const selected = state.selected;
    if (selected !== null && this.shown.has(selected.number)) {
      this.list.setAttribute("aria-activedescendant", `event-${selected.number}`);
    } else this.list.removeAttribute("aria-activedescendant");
  }

  row(event) {
    const row = element("div", "row");
    row.id = `event-${event.number}`;
    row.dataset.number = event.number;
    row.style.top = `${event.number * this.size}px`;
    row.setAttribute("role", "option");
    row.setAttribute("aria-setsize", this.model.events.length);
    row.setAttribute("aria-posinset", event.number + 1);
    const bytes = this.model.bytes(event);
    const isTransfer = event.stream !== null;
    if (isTransfer) row.classList.add(this.model.isA(event.port, event.kind) ? "a" : "b");
    else row.classList.add("wide");
    if (event.isProblem || event.differs.size) row.classList.add("bad");
    if (event.kind === "met") row.classList.add("good");
    const gap = element("span", event.gap >= LONG_SILENCE ? "gap long" : "gap", event.gap && event.number ? `+${duration(event.gap)}` : "");
    row.append(element("span", "time", moment(event.time)), gap, element("span", "what", whatOf(event)));
    if (isTransfer) {
      row.append(element("span", "hex", hexOf(bytes, HEX_SHOWN)), element("span", "text", textOf(bytes, 3 * HEX_SHOWN)));
    } else row.append(element("span", "hex", event.detail.replace(/\s+/g, " ")));
    return row;
  }

  reveal(event) {
    const top = event.number * this.size;
    const { scrollTop, clientHeight } = this.list;
    if (top < scrollTop + this.size || top > scrollTop + clientHeight - 2 * this.size) {
      this.list.scrollTop = Math.max(0, top - clientHeight / 2);
    }
  }
}

// Sixteen bytes to the line; what was found, and what differs from the other end, stands out.
function dumpOf(model, event, search, limit) {
  const bytes = model.bytes(event).subarray(0, limit);
  const dump = element("pre");
  let plain = "";
  const flush = () => {
    if (plain) dump.append(plain);
    plain = "";
  };
  const put = (text, at) => {
    const isWrong = event.differs.has(at);
    if (!isWrong && !search.marks(event, at)) plain += text;
    else {
      flush();
      dump.append(element("mark", isWrong ? "bad" : "", text));
    }
  };
  const width = Math.min(16, bytes.length);
  for (let start = 0; start < bytes.length; start += 16) {
    const end = Math.min(start + 16, bytes.length);
    plain += `${start.toString(16).padStart(4, "0")}  `;
    for (let at = start; at < end; at += 1) {
      put(HEX[bytes[at]], at);
      plain += at % 8 === 7 ? "  " : " ";
    }
    plain += " ".repeat(3 * (width - end + start) + (end - start < 8 && width > 8 ? 1 : 0) + 1);
    for (let at = start; at < end; at += 1) put(letter(bytes[at]), at);
    plain += "\n";
  }
  flush();
  return dump;
}

function showDetail(holder, model, state) {
  const event = state.selected;
  holder.replaceChildren();
  if (event === null) {
    holder.append(element("p", "quiet", "Select an event in the lanes or in the list. Press ? for the keys."));
    return;
  }
  const size = event.stream === null ? "" : ` ${event.size} ${event.size === 1 ? "byte" : "bytes"}`;
  const who = event.port === null ? "The script" : event.port.name;
  holder.append(element("h2", "", `${who} ${event.kind}${size}`));
  const times = `at ${moment(event.time)} s`;
  const since = event.gap ? `${duration(event.gap)} after` : "at the same time as";
  holder.append(element("p", "quiet", event.number ? `${times}, ${since} the event before` : times));
  if (event.detail) holder.append(element("p", event.isProblem ? "said bad" : "said", event.detail));
  for (const [name, frame] of event.frames) {
    holder.append(element("p", frame.isProblem ? "bad" : "", `${name}: ${frame.text}`));
  }
  if (event.differs.size) {
    const sent = (at) => HEX[event.stream.origin[event.start + at]];
    const bytes = [...event.differs].slice(0, DIFFERENCES_SHOWN);
    const words = bytes.map((at) => `${HEX[model.bytes(event)[at]]} was sent as ${sent(at)}`).join(", ");
    const more = event.differs.size - bytes.length;
    holder.append(element("p", "bad", `Damaged on its way: ${words}${more ? ` and ${more} more` : ""}.`));
  }
  if (event.size === 0) return;
  holder.append(dumpOf(model, event, state.search, DUMP_SHOWN));
  if (event.size > DUMP_SHOWN) {
    const more = element("button", "", `Show all ${event.size} bytes`);
    more.type = "button";
    more.addEventListener("click", () => {
      holder.querySelector("pre").replaceWith(dumpOf(model, event, state.search, event.size));
      more.remove();
    });
    holder.append(more);
  }
}

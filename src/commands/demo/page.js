"use strict";

const MOST_ROWS = 300;
const MOST_MESSAGES = 200;
const byId = (id) => document.getElementById(id);
const scheme = location.protocol === "https:" ? "wss://" : "ws://";
// Names are not unique: the page knows its own clients by this.
const page = Math.random().toString(36).slice(2, 10);

function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

/** Appends to a list of limited length, and follows its end unless the reader has scrolled up. */
function append(list, item, most) {
  const following = list.scrollHeight - list.scrollTop - list.clientHeight < 40;
  list.append(item);
  while (list.children.length > most) list.firstElementChild.remove();
  if (following) list.scrollTop = list.scrollHeight;
}

class Client {
  constructor(id) {
    this.id = id;
    this.socket = null;
    this.again = false;
    for (const part of ["name", "toggle", "state", "log", "form", "input", "send"]) {
      this[part] = byId(`${id}-${part}`);
    }
    this.toggle.addEventListener("click", () => (this.socket ? this.disconnect() : this.connect()));
    this.name.addEventListener("change", () => {
      this.again = this.socket !== null;
      this.disconnect();
    });
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.say();
    });
    this.show("closed", "not connected");
  }

  // Settled once it is known whether the gateway lets it in.
  connect() {
    const name = this.name.value.trim() || "guest";
    const query = new URLSearchParams({ name, tab: `${page}.${this.id}` });
    const socket = new WebSocket(`${scheme}${location.host}/chat?${query}`);
    let opened = false;
    this.socket = socket;
    this.title = name;
    this.show("connecting", "connecting…");
    socket.addEventListener("open", () => {
      opened = true;
      this.show("open", "connected");
    });
    const settled = new Promise((resolve) => ["open", "close"].forEach((event) => socket.addEventListener(event, resolve)));
    socket.addEventListener("message", (event) => this.receive(event.data));
    socket.addEventListener("close", (event) => {
      this.socket = null;
      const why = opened ? `closed: ${[event.code, event.reason].filter(Boolean).join(" ")}` : "could not connect";
      const good = opened && (event.code === 1000 || event.code === 1001);
      this.show(good ? "closed" : "failed", why);
      this.status(why, !good);
      if (this.again) {
        this.again = false;
        this.connect();
      }
    });
    return settled;
  }

  disconnect() {
    if (!this.socket) return;
    this.show("connecting", "closing…");
    this.socket.close(1000);
  }

  say() {
    if (this.socket?.readyState !== WebSocket.OPEN || this.input.value === "") return;
    this.socket.send(this.input.value);
    this.input.value = "";
    this.input.focus();
  }

  receive(data) {
    let said = null;
    try {
      said = JSON.parse(data);
    } catch {
      // Not from the chat; shown as it is.
    }
    if (typeof said?.from === "string" && typeof said.text === "string") {
      const item = element("li", said.from === this.title ? "said mine" : "said");
      item.append(element("span", "from", said.from), element("span", "text", said.text));
      append(this.log, item, MOST_MESSAGES);
    } else if (typeof said?.joined === "string") {
      this.status(`${said.joined} joined`);
    } else if (typeof said?.left === "string") {
      this.status(`${said.left} left`);
    } else {
      this.status(typeof data === "string" ? data : "a binary message");
    }
  }

  status(text, bad = false) {
    append(this.log, element("li", bad ? "status bad" : "status", text), MOST_MESSAGES);
  }

  show(state, text) {
    this.state.dataset.state = state;
    this.state.textContent = text;
    this.toggle.textContent = this.socket ? "Disconnect" : "Connect";
    this.input.disabled = this.send.disabled = state !== "open";
  }
}

const trace = byId("trace");
const clients = ["ada", "grace"].map((id) => new Client(id));

function ownerOf(client) {
  return clients.find(({ id }) => client?.tab === `${page}.${id}`)?.id ?? "other";
}

/** One sentence about a row, around the client's name. */
function sentence(row) {
  switch (row.kind) {
    case "GET":
      if (row.state === "opened") return ["", " opened an event stream"];
      if (row.state === "refused") return ["", ` was refused an event stream: ${row.status}`];
      return ["the event stream of ", " has ended"];
    case "POST":
      return ["", ` sent a message: POST ${row.path}`];
    case "EVENT":
      return ["an event becomes a message to ", ""];
    case "MISSED":
      return [`${row.rows} rows came too fast to be shown`, ""];
    default:
      return [row.kind, ""];
  }
}

/** Names and values worth showing, in the order in which they are read. */
function facts(row) {
  const headers = row.headers ?? {};
  const header = (name) => (headers[name] === undefined ? [] : [[name, headers[name]]]);
  switch (row.kind) {
    case "GET":
      if (row.state === "closed") return [["tidegate-connection", row.client.connection]];
      return [["path", row.path], ...header("tidegate-connection"), ...header("last-event-id"), ["status", row.status]];
    case "POST":
      return [
        ...header("tidegate-sequence"),
        ...header("idempotency-key"),
        ...header("content-type"),
        ["status", row.status],
      ];
    case "EVENT":
      return [["id", row.id], ["event", row.event]];
    default:
      return [];
  }
}

function add(row) {
  const item = element("li");
  item.dataset.kind = row.kind;
  item.dataset.client = ownerOf(row.client);
  const kind = element("span", "kind", row.kind);
  kind.dataset.kind = row.kind;
  const [before, after] = sentence(row);
  const what = element("span", "what", before);
  if (row.client) what.append(element("span", "name", row.client.name || "an unknown client"));
  what.append(after);
  const at = new Date(row.at);
  const time = element("time", "", at.toLocaleTimeString(undefined, { hour12: false }) + `.${String(at.getMilliseconds()).padStart(3, "0")}`);
  time.dateTime = at.toISOString();
  item.append(kind, what, time);

  const list = element("dl", "facts");
  for (const [name, value] of facts(row)) {
    const fact = element("div");
    const bad = name === "status" && value >= 400;
    fact.append(element("dt", "", name), element("dd", bad ? "bad" : "", value));
    list.append(fact);
  }
  if (list.children.length > 0) item.append(list);
  const payload = row.kind === "POST" ? row.body : row.data;
  if (payload !== undefined) {
    const shown = element("code", "payload", payload);
    shown.dataset.kind = row.kind;
    item.append(shown);
  }
  trace.querySelector(".empty")?.remove();
  append(trace, item, MOST_ROWS);
}

function clear() {
  trace.replaceChildren(element("li", "empty", "Nothing yet: send a message and watch what arrives here."));
}

function watch() {
  const state = byId("trace-state");
  const show = (value, text) => {
    state.dataset.state = value;
    state.textContent = text;
  };
  let started = false;
  const start = async () => {
    if (started) return;
    started = true;
    // One after the other, so that the first sees the second join: on one HTTP/2 connection they would race.
    for (const client of clients) await client.connect();
  };
  const source = new EventSource("/trace");
  source.addEventListener("open", () => {
    show("open", "live");
    start(); // only now, so that the trace shows the clients from their first request on
  });
  source.addEventListener("message", (event) => add(JSON.parse(event.data)));
  source.addEventListener("error", () => show("failed", source.readyState === EventSource.CLOSED ? "no trace" : "trace lost, trying again"));
  setTimeout(start, 3000); // the chat works without the trace
}

byId("trace-clear").addEventListener("click", clear);
clear();
watch();

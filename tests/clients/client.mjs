// A WebSocket client of the npm library `ws`, for the tests.
//
//     client.mjs echo URL CA        sends messages of many sizes to a server that echoes
//     client.mjs close URL CA NAME… offers subprotocols and waits to be closed
//
// Prints one JSON object per line for everything it sees; a failed check is an exception and exit code 1.

import assert from "node:assert/strict";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import WebSocket from "ws";

const SIZES = [0, 1, 125, 126, 65535, 65536, 1 << 20];
const LIMIT_MS = 60_000;

const say = (what) => console.log(JSON.stringify(what));

/** `size` bytes of UTF-8, with line feeds and characters of two bytes, that differ from number to number. */
function text(number, size) {
  const whole = Buffer.from(`${number} ${"tide é\n".repeat(size / 8 + 1)}`).subarray(0, size);
  const decoded = whole.toString().replace(/\ufffd$/u, "");
  return decoded + ".".repeat(size - Buffer.byteLength(decoded)); // in place of half a character
}

const binary = (number, size) => Buffer.from(Array.from({ length: size }, (_, at) => (number + at) % 256));

/** Pairs of what is sent and what must come back. */
function messages() {
  const pairs = [];
  SIZES.forEach((size, index) => {
    const said = text(index + 1, size);
    assert.equal(Buffer.byteLength(said), size);
    pairs.push([said, said]);
    const octets = binary(index + 1, size);
    pairs.push([octets, octets]);
  });
  // An event cannot carry a CR, so the README's backend sends such text as a binary event.
  pairs.push(["carriage\rreturn", Buffer.from("carriage\rreturn")]);
  return pairs;
}

function connect(url, ca, names) {
  const socket = new WebSocket(url, names, { ca: readFileSync(ca) });
  socket.on("open", () => say({ event: "open", subprotocol: socket.protocol, extensions: socket.extensions }));
  socket.on("error", (error) => {
    throw error;
  });
  socket.on("close", (code, reason) => say({ event: "close", code, reason: reason.toString() }));
  return socket;
}

async function echo(url, ca) {
  const socket = connect(url, ca, []);
  const pairs = messages();
  let number = 0;
  const all = new Promise((resolve) => {
    socket.on("message", (data, isBinary) => {
      const [said, wanted] = pairs[number];
      number += 1;
      const seen = isBinary ? data : data.toString();
      assert.ok(typeof seen === typeof wanted, `message ${number}: sent ${typeof said}, got ${typeof seen}`);
      assert.ok(isBinary ? seen.equals(wanted) : seen === wanted, `message ${number} came back changed`);
      say({ event: "echo", number, kind: isBinary ? "binary" : "text", size: data.length });
      if (number === pairs.length) resolve();
    });
  });
  await once(socket, "open");
  for (const [said] of pairs) socket.send(said);
  await all;
  socket.ping("tide");
  const [answer] = await once(socket, "pong");
  assert.equal(answer.toString(), "tide");
  say({ event: "pong" });
  socket.close(1000, "done");
  await once(socket, "close");
}

async function close(url, ca, names) {
  const socket = connect(url, ca, names);
  socket.on("message", (data) => say({ event: "message", data: data.toString() }));
  await once(socket, "close");
}

const [scene, url, ca, ...names] = process.argv.slice(2);
const limit = setTimeout(() => {
  throw new Error(`not done after ${LIMIT_MS} ms`);
}, LIMIT_MS);
await { echo, close }[scene](url, ca, names);
clearTimeout(limit);

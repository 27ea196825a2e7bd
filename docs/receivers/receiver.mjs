// Receives webhooks of rowcall: verifies each, takes it once, prints it.
//
// WEBHOOK_SECRET=whsec_… node receiver.mjs [PORT]
import { createHmac, timingSafeEqual } from "node:crypto";
import { createServer } from "node:http";

const key = Buffer.from(process.env.WEBHOOK_SECRET.replace(/^whsec_/, ""), "base64");
const tolerance = 5 * 60; // seconds
const maxBody = 16 << 20;

// verified says whether one of the signatures was made of these bytes, lately.
function verified(headers, body) {
  const { "webhook-id": id = "", "webhook-timestamp": timestamp = "", "webhook-signature": signatures = "" } = headers;
  if (!/^\d+$/.test(timestamp) || Math.abs(Date.now() / 1000 - Number(timestamp)) > tolerance) return false;
  const mac = createHmac("sha256", key).update(`${id}.${timestamp}.`).update(body).digest("base64");
  const want = Buffer.from("v1," + mac);
  return signatures.split(" ").some((s) => {
    const got = Buffer.from(s);
    return got.length === want.length && timingSafeEqual(got, want);
  });
}

const seen = new Set(); // in your program: a table, written in the transaction of the effect

async function receive(request, response) {
  const parts = [];
  let size = 0;
  for await (const part of request) {
    if ((size += part.length) > maxBody) return response.writeHead(413).end();
    parts.push(part);
  }
  const body = Buffer.concat(parts); // the bytes as they came: JSON that was read and written again verifies no more
  if (request.method !== "POST" || !verified(request.headers, body)) return response.writeHead(401).end();
  for (const event of [JSON.parse(body)].flat()) {
    const name = JSON.stringify([event.source, event.id]);
    if (seen.has(name)) continue; // it came before: say so with a 2xx
    seen.add(name);
    console.log(event.type, event.subject ?? "", JSON.stringify(event.data));
  }
  response.writeHead(204).end(); // only now: what was answered with 2xx does not come again
}

createServer((request, response) => {
  receive(request, response).catch(() => response.writeHead(500).end());
}).listen(Number(process.argv[2] ?? 9000), process.env.LISTEN_HOST ?? "127.0.0.1");

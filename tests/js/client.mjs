// An unmodified @stomp/stompjs client under a test's command: one JSON object a line in, one a line out.
// In:  {"do": "connect", "url", "headers", "reconnectDelay"?} | {"do": "subscribe", "id", "destination", "headers"?}
//      | {"do": "send", "destination", "body", "headers"?} | {"do": "unsubscribe", "id"} | {"do": "disconnect"}
// Out: {"event": "connected" | "message" | "receipt" | "error" | "closed" | "subscribed" | "disconnected", …}
import { createInterface } from "node:readline";
import { Client } from "@stomp/stompjs";
import { WebSocket } from "ws";

Object.assign(globalThis, { WebSocket });

const now = () => performance.timeOrigin + performance.now();
const say = (event, more = {}) => process.stdout.write(JSON.stringify({ event, at: now(), ...more }) + "\n");
const subscriptions = new Map();
let client;

const subscribe = ({ id, destination, headers = {} }) => {
  const receipt = `subscribed-${id}-${Date.now()}`;
  client.watchForReceipt(receipt, (frame) => say("subscribed", { id, lastId: frame.headers["last-id"] }));
  const got = (message) =>
    say("message", { subscription: id, headers: message.headers, body: JSON.parse(message.body) });
  return client.subscribe(destination, got, { id, receipt, ...headers });
};

const actions = {
  connect({ url, headers, reconnectDelay = 0, resubscribe = [] }) {
    client = new Client({ brokerURL: url, connectHeaders: headers, reconnectDelay });
    client.onConnect = (frame) => {
      say("connected", { headers: frame.headers });
      for (const wanted of resubscribe) subscriptions.set(wanted.id, subscribe(wanted));
    };
    client.onStompError = (frame) => say("error", { headers: frame.headers, body: frame.body });
    client.onWebSocketClose = (closed) => say("closed", { code: closed.code, reason: closed.reason });
    client.activate();
  },
  subscribe(wanted) {
    subscriptions.set(wanted.id, subscribe(wanted));
  },
  unsubscribe({ id }) {
    subscriptions.get(id).unsubscribe();
    subscriptions.delete(id);
  },
  send({ destination, body, headers = {} }) {
    if (headers.receipt) client.watchForReceipt(headers.receipt, () => say("receipt", { id: headers.receipt }));
    client.publish({ destination, body: JSON.stringify(body), headers });
  },
  async disconnect() {
    await client.deactivate();
    say("disconnected");
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const { do: action, ...rest } = JSON.parse(line);
  await actions[action](rest);
}
process.exit(0);

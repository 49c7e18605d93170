// node call.mjs <protocol> <address> <service> <method> <requests>: makes a call and prints each answer as a line of JSON, or at
// the end {"error": {"code", "message", "reason"}}. protocol is connect, connect-json, grpc-web, grpc-web-json or grpc, and
// requests a list in JSON, which has one entry for all but grpc.
import { callConnect, callNode } from "./client.mjs";

const [protocol, address, service, method, requests, timeoutMs] = process.argv.slice(2);
const list = JSON.parse(requests);
const answers = protocol === "grpc"
  ? callNode(address, service, method, list)
  : callConnect(protocol, `http://${address}`, service, method, list[0], timeoutMs && { timeoutMs: Number(timeoutMs) });
try {
  for await (const answer of answers) console.log(JSON.stringify(answer));
} catch (error) {
  if (!error.code) throw error;
  console.log(JSON.stringify({ error: { code: error.code, message: error.message, reason: error.reason } }));
}

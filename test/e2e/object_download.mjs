// node object_download.mjs <protocol> <address> <name> <bytes per second>: downloads an object as a page does, over as many streams
// as it takes, and prints {"bytes", "sha256", "breaks", "silence"}: the seconds without bytes before a break, at most. Each line
// on stderr is what a stream broke with.
import { createHash } from "node:crypto";
import { connectClient, failureOf, serviceNamed } from "./web/client.mjs";

const [protocol, address, name, pace] = process.argv.slice(2);
const client = connectClient(protocol, `http://${address}`, serviceNamed("quartet.v1.ObjectService"));
const hash = createHash("sha256");
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const began = Date.now();
let offset = 0n, size, generation = 0n, breaks = 0, silence = 0, came = began;

while (size === undefined || offset < size) {
  try {
    for await (const { reply } of client.downloadObject({ name, generation, readOffset: offset })) {
      if (reply.case === "object") {
        if (size === undefined) console.error("began");
        ({ generation, sizeBytes: size } = reply.value);
        continue;
      }
      if (reply.value.offset !== offset) throw new Error(`expected offset ${offset}, got ${reply.value.offset}`);
      hash.update(reply.value.data);
      offset += BigInt(reply.value.data.length);
      const ahead = (Number(offset) / Number(pace)) * 1000 - (Date.now() - began);
      if (ahead > 0) await pause(ahead);
      came = Date.now();
    }
    if (offset < size) throw new Error(`the stream ended well after ${offset} of ${size} bytes`);
  } catch (error) {
    const failure = failureOf(error);
    // What the network breaks has no status of the server: fetch says UNKNOWN or, in the middle of a stream, UNAVAILABLE.
    if (!["UNAVAILABLE", "UNKNOWN", "ABORTED", "INTERNAL"].includes(failure.code) || Date.now() - began > 120_000) throw error;
    console.error(`${failure.code} ${failure.reason ?? ""} ${failure.message}`);
    breaks++;
    silence = Math.max(silence, (Date.now() - came) / 1000);
    came = Date.now();
    await pause(500);
  }
}
console.log(JSON.stringify({ bytes: Number(offset), sha256: hash.digest("hex"), breaks, silence }));
